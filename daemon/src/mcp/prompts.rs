//! Conversations that people begin often.

use rmcp::model::{ErrorData, GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};

struct Written {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    /// Each with what it is; all are required.
    arguments: &'static [(&'static str, &'static str)],
    /// `{name}` stands for an argument.
    text: &'static str,
}

const PROMPTS: &[Written] = &[
    Written {
        name: "author_scenario",
        title: "Author a scenario",
        description: "From a rule in plain words to a defined scenario.",
        arguments: &[("rule", "What has to hold before what, in your own words")],
        text: "Write a scenario for this rule: {rule}\n\n\
            Call providers_list and provider_contract_get first, so that conditions ask only what providers answer. \
            Search the documentation for `scenario` if a member is unclear. Prefer few stages, and gates that \
            fail closed. Try it with precheck where a data shape is registered, show it to me, and call \
            scenario_define only after I agree: a scenario cannot be changed.",
    },
    Written {
        name: "explain_decision",
        title: "Explain a decision",
        description: "Why a run goes on, holds or failed.",
        arguments: &[
            ("tenant_id", "Whose run it is"),
            ("namespace_id", "The namespace it is in"),
            ("run_id", "The run"),
        ],
        text: "Explain where run {run_id} of tenant {tenant_id} in namespace {namespace_id} stands and why. Read the \
            resource run://{tenant_id}/{namespace_id}/{run_id}/state, which records nothing. Name each unmet gate, \
            the conditions it came out by, and what would change the answer. Unknown is not False: say which \
            evidence is missing. Do not guess what is not disclosed to you.",
    },
    Written {
        name: "audit_runpack",
        title: "Audit a pack",
        description: "Verify a pack and say what it proves.",
        arguments: &[("runpack_dir", "The pack's directory on the server's machine")],
        text: "Verify the pack in {runpack_dir} with runpack_verify (manifest.json) and report: pass or fail, each \
            finding in plain words, and what the pack does and does not prove. A pack that passes agrees with \
            itself; that it was not replaced whole takes a pin or a signature from elsewhere.",
    },
];

pub(super) fn list() -> Vec<Prompt> {
    PROMPTS.iter().map(listing).collect()
}

fn listing(prompt: &Written) -> Prompt {
    let argument = |(name, description): &(&str, &str)| {
        PromptArgument::new(*name).with_description(*description).with_required(true)
    };
    let arguments = prompt.arguments.iter().map(argument).collect();
    Prompt::new(prompt.name, Some(prompt.description), Some(arguments)).with_title(prompt.title)
}

pub(super) fn get(name: &str, arguments: &JsonObject) -> Result<GetPromptResult, ErrorData> {
    let Some(prompt) = PROMPTS.iter().find(|prompt| prompt.name == name) else {
        return Err(ErrorData::invalid_params(format!("unknown prompt: {name}"), None));
    };
    // Pieces rather than replacements one after another: what an argument
    // says is never taken for a place.
    let mut text = String::new();
    let mut rest = prompt.text;
    while let Some((before, after)) = rest.split_once('{') {
        let (place, after) = after.split_once('}').unwrap_or((after, ""));
        let given = arguments.get(place).and_then(|value| value.as_str());
        let given =
            given.ok_or_else(|| ErrorData::invalid_params(format!("the argument `{place}` is missing"), None))?;
        text.push_str(before);
        text.push_str(given);
        rest = after;
    }
    text.push_str(rest);
    Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).with_description(prompt.description))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_of_a_prompt_is_an_argument_and_every_argument_has_a_place() {
        for prompt in PROMPTS {
            let given = prompt.arguments.iter().map(|(name, _)| ((*name).to_owned(), json!("{given}"))).collect();
            let result = get(prompt.name, &given).unwrap();
            assert!(serde_json::to_string(&result).unwrap().contains("{given}"), "{}", prompt.name);
            for (name, _) in prompt.arguments {
                assert!(prompt.text.contains(&format!("{{{name}}}")), "{name}");
                let mut fewer: JsonObject = given.clone();
                fewer.remove(*name);
                assert!(get(prompt.name, &fewer).unwrap_err().message.contains(name));
            }
        }
        assert!(get("none", &JsonObject::new()).is_err());
    }
}
