//! What a conflist must be so that the plugin serves it.
//!
//! Owns: which conflists are refused. Does not: know the plugin's fields; its own reader does.
//! Invariant: one that is taken here is one that the plugin reads without a fault, in every version it is offered in.

use anyhow::{Context as _, anyhow};
use serde_json::{Map, Value};
use tortie::cni::{Command, Config, Env, unusable_subnet};

use super::PROGRAM;

/// The address plugin whose fields are known here as well.
const HOST_LOCAL: &str = "host-local";

/// The programs that a conflist names.
pub fn plugins_of(conflist: &str) -> anyhow::Result<Vec<String>> {
    let parsed: Value = serde_json::from_str(conflist).context("the conflist (--config) is no JSON")?;
    let plugins = parsed.get("plugins").and_then(Value::as_array);
    let plugins = plugins.ok_or_else(|| anyhow!("the conflist has no list called plugins"))?;
    for field in ["cniVersion", "name"] {
        if parsed.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(anyhow!("the conflist has no {field}"));
        }
    }
    let name_in = |value: &Value| value.get("type").and_then(Value::as_str).map(str::to_owned);
    let types: Option<Vec<String>> = plugins.iter().map(name_in).collect();
    let mut types = types.ok_or_else(|| anyhow!("the conflist has a plugin without a type"))?;
    let Some(ours) = plugins.first().filter(|_| types.first().is_some_and(|first| first == PROGRAM)) else {
        return Err(anyhow!(
            "the first plugin of the conflist is not {PROGRAM}, which makes the pod's interface"
        ));
    };
    let given = parsed.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    for version in parsed.get("cniVersion").into_iter().chain(given) {
        let config = read_as_the_plugin_does(&parsed, ours, version)?;
        if !types.contains(&config.ipam) {
            types.push(config.ipam);
        }
    }
    check_subnets(ours)?;
    Ok(types)
}

/// As a runtime hands it over at ADD: the plugin's own part, with the list's name and the version chosen.
fn read_as_the_plugin_does(list: &Value, plugin: &Value, version: &Value) -> anyhow::Result<Config> {
    let mut whole = plugin.as_object().cloned().unwrap_or_else(Map::new);
    whole.insert("name".to_owned(), list.get("name").cloned().unwrap_or_default());
    whole.insert("cniVersion".to_owned(), version.clone());
    let env = Env {
        command: Command::Add,
        container_id: String::new(),
        netns: None,
        ifname: String::new(),
        args: String::new(),
        path: Vec::new(),
    };
    let read = Config::parse(Value::Object(whole).to_string().as_bytes(), &env);
    read.with_context(|| format!("the conflist's {PROGRAM} could not serve pods"))
}

/// A typing error would show only when the first pod asks for an address.
fn check_subnets(plugin: &Value) -> anyhow::Result<()> {
    let Some(ipam) = plugin.get("ipam").filter(|ipam| ipam.get("type").is_some_and(|it| it == HOST_LOCAL))
    else {
        return Ok(());
    };
    match unusable_subnet(ipam) {
        Some(subnet) => Err(anyhow!(
            "the conflist's {HOST_LOCAL} has the subnet {subnet}; use a prefix or usePodCidr, usePodCidrIPv6"
        )),
        None => Ok(()),
    }
}
