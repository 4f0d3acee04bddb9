//! Configs that come with the program.

use clap::ValueEnum;

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "each file says what it is for")]
pub enum Preset {
    QuickstartDev,
    DefaultRecommended,
    Hardened,
    ContainerProd,
}

impl Preset {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::QuickstartDev => "quickstart-dev",
            Self::DefaultRecommended => "default-recommended",
            Self::Hardened => "hardened",
            Self::ContainerProd => "container-prod",
        }
    }

    /// The file.
    pub fn text(self) -> &'static str {
        match self {
            Self::QuickstartDev => include_str!("../../presets/quickstart-dev.toml"),
            Self::DefaultRecommended => include_str!("../../presets/default-recommended.toml"),
            Self::Hardened => include_str!("../../presets/hardened.toml"),
            Self::ContainerProd => include_str!("../../presets/container-prod.toml"),
        }
    }
}
