//! Asking clients of the new era: they are told what is missing, and call
//! again with it. What was asked already is in their hands, under our seal.

use rmcp::RoleServer;
use rmcp::model::{
    ClientCapabilities, CreateMessageResult, ElicitResult, ElicitationAction, ElicitationCapability, ErrorData,
    InputRequest, InputRequests, InputRequiredResult, InputResponses, ListRootsResult, RequestStateCodec,
    RootsCapabilities, SamplingCapability, SealOptions,
};
use rmcp::service::RequestContext;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::catalogue::Asking;

/// Keeps nobody's secret: it is in every copy of this file.
const KEY: &[u8] = b"a key for tests, known to anybody";

/// Where a call stands.
pub enum Round {
    /// Something is missing.
    Asks(InputRequiredResult),
    /// Everything is known: the last answers.
    Answered(InputResponses),
}

impl Asking {
    /// Takes the answers of a call of `name`, if it is not the first.
    ///
    /// # Errors
    /// A state that we did not seal for this name, and a client that can answer
    /// nothing of what is asked.
    pub fn take(
        &self,
        name: &str,
        responses: Option<InputResponses>,
        state: Option<&str>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Round, ErrorData> {
        let codec = RequestStateCodec::new_unchecked(KEY);
        let declared = context.client_capabilities().unwrap_or_default();
        // How many rounds of questions the client has seen.
        let seen: usize = match state {
            Some(state) => codec
                .open_json_with(state, name.as_bytes())
                .map_err(|_| ErrorData::invalid_params("requestState is none that was given for this", None))?,
            None => usize::from(!self.sealed),
        };
        let responses = responses.unwrap_or_default();
        let mut next = 0;
        if let Some(last) = seen.checked_sub(1) {
            let questions = self.questions(last, &declared);
            if !questions.iter().all(|(key, question)| answers(responses.get(key), question)) {
                next = last;
            } else if seen == self.rounds.len() {
                return Ok(Round::Answered(responses));
            } else {
                next = seen;
            }
        }
        let questions = self.questions(next, &declared);
        if questions.is_empty() {
            return Err(ErrorData::missing_required_client_capability(self.needed(next)));
        }
        let options = SealOptions::new().associated_data(name.as_bytes());
        let state = self.sealed.then(|| codec.seal_json_with(&(next + 1), &options)).transpose();
        let state = state.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(Round::Asks(InputRequiredResult::new(Some(questions), state)))
    }

    /// Those of a round that the client can answer.
    fn questions(&self, round: usize, declared: &ClientCapabilities) -> InputRequests {
        let can = |question: &InputRequest| match question {
            InputRequest::Elicitation(_) => declared.elicitation.is_some(),
            InputRequest::CreateMessage(_) => declared.sampling.is_some(),
            InputRequest::ListRoots(_) => declared.roots.is_some(),
            _ => false,
        };
        let questions = self.rounds.get(round).into_iter().flatten().filter(|(_, question)| can(question));
        questions.map(|(key, question)| (key.clone(), question.clone())).collect()
    }

    fn needed(&self, round: usize) -> ClientCapabilities {
        let mut needed = ClientCapabilities::default();
        for question in self.rounds.get(round).into_iter().flat_map(InputRequests::values) {
            match question {
                InputRequest::Elicitation(_) => needed.elicitation = Some(ElicitationCapability::default()),
                InputRequest::CreateMessage(_) => needed.sampling = Some(SamplingCapability::default()),
                InputRequest::ListRoots(_) => needed.roots = Some(RootsCapabilities::default()),
                _ => {}
            }
        }
        needed
    }
}

fn answers(response: Option<&Value>, question: &InputRequest) -> bool {
    fn read<T: DeserializeOwned>(response: &Value) -> Option<T> {
        serde_json::from_value(response.clone()).ok()
    }
    let Some(response) = response else { return false };
    match question {
        InputRequest::Elicitation(_) => {
            read(response).is_some_and(|result: ElicitResult| result.action == ElicitationAction::Accept)
        }
        InputRequest::CreateMessage(_) => read::<CreateMessageResult>(response).is_some(),
        InputRequest::ListRoots(_) => read::<ListRootsResult>(response).is_some(),
        _ => false,
    }
}
