use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

macro_rules! string_ids {
    ($($(#[$meta:meta])* $name:ident)*) => {$(
        $(#[$meta])*
        ///
        /// Any text; compared and ordered by its UTF-8 bytes.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(SmolStr);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

string_ids! {
    /// Names a scenario.
    ScenarioId
    /// The author's version of a scenario; not interpreted.
    SpecVersion
    /// Names a run within a tenant and namespace.
    RunId
    /// Names a stage within a scenario.
    StageId
    /// Names a packet within a scenario.
    PacketId
    /// Names a gate within a scenario.
    GateId
    /// Names a condition within a scenario.
    ConditionId
    /// Names an evidence provider.
    ProviderId
    /// Names a check a provider offers.
    CheckId
    /// Names a trigger within a run; the key of idempotency.
    TriggerId
    /// Names a decision within a run: `decision-<seq>`.
    DecisionId
    /// Ties records to a caller's own request.
    CorrelationId
    /// Names a schema.
    SchemaId
    /// Names a policy a scenario refers to.
    PolicyId
    /// Says who sent a trigger.
    SourceId
    /// Names an agent.
    AgentId
    /// Names a submission within a run.
    SubmissionId
    /// Names a recorded tool call within a run: `call-<n>`.
    CallId
    /// Names a dispatch.
    DispatchId
}

macro_rules! number_ids {
    ($($(#[$meta:meta])* $name:ident)*) => {$(
        $(#[$meta])*
        /// On the wire an integer from 1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// `None` for 0.
            pub fn new(value: u64) -> Option<Self> {
                NonZeroU64::new(value).map(Self)
            }

            /// The number.
            pub fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

number_ids! {
    /// Names a tenant.
    TenantId
    /// Names a namespace.
    NamespaceId
}
