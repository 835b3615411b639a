//! Settings of the node: FelixConfiguration, a file, and the environment, merged.
//!
//! Owns: the layers and their order. Does not: act on a setting.
//! Invariant: a later layer wins: defaults, `default`, `node.<name>`, the file, the environment.

pub mod felix;
pub mod local;
pub mod names;
mod node;
pub mod parameter;
pub mod value;

pub(crate) use node::{LOOK, NodeSettings};
use parameter::Setting;
use tortie_model::settings::Settings;

/// What one source sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    /// In no particular order; one per parameter.
    pub settings: Vec<Setting>,
}

/// Everything that decides about the settings of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layers {
    /// The FelixConfiguration called `default`.
    pub default: Option<Layer>,
    /// The FelixConfiguration called `node.<name>`.
    pub node: Option<Layer>,
    /// The file.
    pub file: Layer,
    /// The environment.
    pub environment: Layer,
}

impl Layers {
    /// The settings in force.
    pub fn merge(&self) -> Settings {
        let mut settings = Settings::default();
        let datastore = self.default.iter().chain(&self.node);
        for layer in datastore.chain([&self.file, &self.environment]) {
            let (old, new): (Vec<_>, Vec<_>) = layer.settings.iter().partition(|s| s.is_deprecated());
            old.into_iter().chain(new).for_each(|setting| setting.apply(&mut settings));
        }
        settings
    }
}
