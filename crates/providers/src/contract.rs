use runpack_core::canon::{self, CanonError, Digest};
use runpack_core::model::{CheckId, Comparator, ProviderId};
use runpack_core::read::{self, Admit, Refusal, Unknown, admit_value, below};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::{Schema, SchemaError};

/// Bytes of a contract file.
pub const CONTRACT_BYTES_MAX: usize = 1_048_576;

/// Why a contract is not used. `Display` begins with [`ContractError::code`].
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// Not JSON, or not of a contract's shape.
    #[error("{code}: {0}", code = self.code())]
    Parse(#[source] Refusal),
    /// A rule of contracts is broken.
    #[error("{code}: {fault} (`{at}`)", code = self.code())]
    Invalid {
        /// JSON pointer into the contract.
        at: String,
        /// Which.
        fault: String,
    },
    /// A schema of it cannot be used.
    #[error("{code}: `{at}`: {source}", code = self.code())]
    Schema {
        /// JSON pointer to the schema; the error's own begins there.
        at: String,
        /// Why.
        source: SchemaError,
    },
    /// It cannot be digested.
    #[error("{code}: {0}", code = self.code())]
    Digest(#[from] CanonError),
    /// There is a contract of this provider already.
    #[error("{code}: provider {0} has a contract already", code = self.code())]
    Duplicate(ProviderId),
}

impl ContractError {
    /// A stable name for the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Parse(_) => "contract_parse_failed",
            Self::Invalid { .. } => "contract_invalid",
            Self::Schema { .. } => "schema_compile_failed",
            Self::Digest(_) => "contract_hash_failed",
            Self::Duplicate(_) => "duplicate_provider",
        }
    }

    fn invalid(at: impl Into<String>, fault: impl Into<String>) -> Self {
        Self::Invalid { at: at.into(), fault: fault.into() }
    }
}

/// Whether the same question has the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Determinism {
    /// Always.
    Deterministic,
    /// For the same trigger time.
    TimeDependent,
    /// As long as the world outside stays as it is.
    External,
}

/// How a provider is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Compiled in.
    Builtin,
    /// A program or server that speaks MCP.
    Mcp,
}

/// What a contract file says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ContractSpec {
    checks: Vec<CheckSpec>,
    config_schema: Value,
    description: String,
    name: String,
    notes: Vec<String>,
    provider_id: ProviderId,
    transport: Transport,
}

/// What a contract says of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct CheckSpec {
    /// In the order of [`Comparator::ALL`].
    pub allowed_comparators: Vec<Comparator>,
    pub anchor_types: Vec<String>,
    pub check_id: CheckId,
    pub content_types: Vec<String>,
    pub description: String,
    pub determinism: Determinism,
    pub examples: Vec<CheckExample>,
    pub params_required: bool,
    pub params_schema: Value,
    pub result_schema: Value,
}

/// A question and what could be its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wire format")]
pub struct CheckExample {
    pub description: String,
    pub params: Value,
    pub result: Value,
}

impl Admit for ContractSpec {
    fn admit(&mut self) -> Result<(), Refusal> {
        admit_value(&mut self.config_schema, "/config_schema")?;
        for (index, check) in self.checks.iter_mut().enumerate() {
            check.admit().map_err(|refusal| below(&format!("/checks/{index}"), refusal))?;
        }
        Ok(())
    }
}

impl Admit for CheckSpec {
    fn admit(&mut self) -> Result<(), Refusal> {
        admit_value(&mut self.params_schema, "/params_schema")?;
        admit_value(&mut self.result_schema, "/result_schema")?;
        for (index, example) in self.examples.iter_mut().enumerate() {
            admit_value(&mut example.params, &format!("/examples/{index}/params"))?;
            admit_value(&mut example.result, &format!("/examples/{index}/result"))?;
        }
        Ok(())
    }
}

/// What one provider promises: its checks, what they take and answer, and how
/// answers may be compared.
#[derive(Debug, Clone)]
pub struct Contract {
    id: ProviderId,
    transport: Transport,
    checks: Vec<Check>,
    document: Vec<u8>,
    digest: Digest,
}

impl Contract {
    /// Reads the contract file of an external provider.
    ///
    /// Members that no contract has are dropped, and so are not digested.
    ///
    /// # Errors
    /// A file of more than [`CONTRACT_BYTES_MAX`], one that is not a contract,
    /// one that is not of transport `mcp`, or one with a schema that
    /// [`Schema::compile`] refuses.
    pub fn parse(bytes: &[u8]) -> Result<Self, ContractError> {
        Self::new(contract_spec(bytes)?, Transport::Mcp)
    }

    /// Itself, if it is the contract of `provider`.
    ///
    /// # Errors
    /// [`ContractError::Invalid`] if it is another's.
    pub fn of(self, provider: &ProviderId) -> Result<Self, ContractError> {
        if self.id == *provider {
            return Ok(self);
        }
        Err(ContractError::invalid("/provider_id", format!("is `{}`, and the provider is `{provider}`", self.id)))
    }

    fn new(spec: ContractSpec, transport: Transport) -> Result<Self, ContractError> {
        if spec.provider_id.as_str().is_empty() {
            return Err(ContractError::invalid("/provider_id", "must be set"));
        }
        if spec.transport != transport {
            let named = if transport == Transport::Mcp { "mcp" } else { "builtin" };
            return Err(ContractError::invalid("/transport", format!("must be `{named}`")));
        }
        // Nobody checks a config by it, but a contract that says nonsense is not believed.
        usable(&spec.config_schema, "/config_schema".to_owned(), transport)?;
        let document = canon::to_vec(&spec)?;
        let mut checks: Vec<Check> = Vec::with_capacity(spec.checks.len());
        for (index, check) in spec.checks.into_iter().enumerate() {
            let at = format!("/checks/{index}");
            if checks.iter().any(|other| other.spec.check_id == check.check_id) {
                return Err(ContractError::invalid(format!("{at}/check_id"), "is there twice"));
            }
            checks.push(Check::new(check, &at, transport)?);
        }
        Ok(Self { id: spec.provider_id, transport, checks, digest: Digest::of(&document), document })
    }

    /// Whose contract it is.
    pub fn id(&self) -> &ProviderId {
        &self.id
    }

    /// How the provider is reached.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The contract as it is digested: canonical JSON.
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// The digest of [`Contract::document`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The check of that name.
    pub fn check(&self, id: &CheckId) -> Option<&Check> {
        self.checks().find(|check| check.spec.check_id == *id)
    }

    /// Its checks, as the contract orders them.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter()
    }
}

/// One check of a contract, with its schemas.
#[derive(Debug, Clone)]
pub struct Check {
    spec: CheckSpec,
    params: Schema,
    result: Schema,
}

impl Check {
    fn new(spec: CheckSpec, at: &str, transport: Transport) -> Result<Self, ContractError> {
        if spec.check_id.as_str().is_empty() {
            return Err(ContractError::invalid(format!("{at}/check_id"), "must be set"));
        }
        let comparators = &spec.allowed_comparators;
        if comparators.is_empty() {
            return Err(ContractError::invalid(format!("{at}/allowed_comparators"), "must name at least one"));
        }
        if !comparators.is_sorted_by(|one, next| one < next) {
            let order: Vec<_> = Comparator::ALL.iter().map(|comparator| comparator.as_str()).collect();
            let fault = format!("must be in this order, each once: {}", order.join(", "));
            return Err(ContractError::invalid(format!("{at}/allowed_comparators"), fault));
        }
        let params = usable(&spec.params_schema, format!("{at}/params_schema"), transport)?;
        let result = usable(&spec.result_schema, format!("{at}/result_schema"), transport)?;
        Ok(Self { spec, params, result })
    }

    /// What the contract says of it.
    pub fn spec(&self) -> &CheckSpec {
        &self.spec
    }

    /// What params are checked by.
    pub fn params(&self) -> &Schema {
        &self.params
    }

    /// What an answer is checked by.
    pub fn result(&self) -> &Schema {
        &self.result
    }
}

fn contract_spec(bytes: &[u8]) -> Result<ContractSpec, ContractError> {
    if bytes.len() > CONTRACT_BYTES_MAX {
        return Err(ContractError::invalid("", format!("more than {CONTRACT_BYTES_MAX} bytes")));
    }
    read::ingest(bytes, Unknown::Drop).map_err(ContractError::Parse)
}

fn usable(schema: &Value, at: String, transport: Transport) -> Result<Schema, ContractError> {
    let schema = match transport {
        Transport::Builtin => Schema::later(schema),
        Transport::Mcp => Schema::compile(schema),
    };
    schema.map_err(|source| ContractError::Schema { at, source })
}

/// The contracts of the built-in providers. They are compiled in, and a test
/// reads each, so the errors never come.
pub(crate) mod builtin {
    use runpack_core::read::{self, Unknown};

    use super::{CheckSpec, Contract, ContractError, Transport, contract_spec};
    use crate::BodyHashForm;

    const TIME: &str = include_str!("../../../schemas/providers/time.json");
    const ENV: &str = include_str!("../../../schemas/providers/env.json");
    const JSON: &str = include_str!("../../../schemas/providers/json.json");
    const HTTP: &str = include_str!("../../../schemas/providers/http.json");
    const BODY_HASH_HEX: &str = include_str!("../../../schemas/providers/http_body_hash_hex.json");

    pub(crate) fn time() -> Result<Contract, ContractError> {
        Contract::new(contract_spec(TIME.as_bytes())?, Transport::Builtin)
    }

    pub(crate) fn env() -> Result<Contract, ContractError> {
        Contract::new(contract_spec(ENV.as_bytes())?, Transport::Builtin)
    }

    pub(crate) fn json() -> Result<Contract, ContractError> {
        Contract::new(contract_spec(JSON.as_bytes())?, Transport::Builtin)
    }

    pub(crate) fn http(form: BodyHashForm) -> Result<Contract, ContractError> {
        let mut spec = contract_spec(HTTP.as_bytes())?;
        if form == BodyHashForm::Hex {
            let hex: CheckSpec =
                read::ingest(BODY_HASH_HEX.as_bytes(), Unknown::Refuse).map_err(ContractError::Parse)?;
            if let Some(digest) = spec.checks.iter_mut().find(|check| check.check_id == hex.check_id) {
                *digest = hex;
            }
        }
        Contract::new(spec, Transport::Builtin)
    }
}

#[cfg(test)]
mod tests;
