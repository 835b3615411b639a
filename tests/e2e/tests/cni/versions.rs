//! Every version of CNI, through the whole life of a pod.

use serde_json::json;

use crate::world::{Pod, World};

#[test]
fn a_pod_lives_and_goes_in_every_version() {
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let world = World::new();
        let _agent = world.willing_agent();
        let pod = Pod::new("front");
        let mut config = world.config(version);
        let added = world.call("ADD", &config, Some(&pod)).unwrap().unwrap();
        assert_eq!(added["cniVersion"], version);
        assert_eq!(added["ips"][0]["address"], "10.65.0.2/32", "{version}");
        assert_eq!(added["ips"][1]["address"], "fd00:65::2/128", "{version}");
        let names_family = version < "1.0.0";
        assert_eq!(added["ips"][1].get("version") == Some(&json!("6")), names_family, "{version}");

        config["prevResult"] = added;
        let checked = world.call("CHECK", &config, Some(&pod));
        match version {
            "0.3.1" => assert_eq!(checked.unwrap_err()["code"], 1),
            _ => assert_eq!(checked, Ok(None), "{version}"),
        }
        assert_eq!(world.call("DEL", &config, Some(&pod)), Ok(None), "{version}");
        world.assert_nothing_left();
    }
}

#[test]
fn an_address_plugin_of_an_older_version_is_spoken_to_in_that_version() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    let script = r#"case $CNI_COMMAND in
        VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}';;
        *) case $input in *'"cniVersion":"0.4.0"'*) ;;
             *) echo '{"cniVersion":"0.4.0","code":1,"msg":"incompatible"}'; exit 1;; esac
           [ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.65.3.3/24"}]}'
           [ $CNI_COMMAND = CHECK ] && case $input in *'"version":"4"'*) ;; *) exit 1;; esac
           true;;
        esac"#;
    world.plugin("old", script);
    world.changes.insert("ipam".into(), json!({"type": "old"}));
    let pod = Pod::new("front");
    let added = world.add(&pod).unwrap().unwrap();
    assert_eq!(
        (&added["cniVersion"], &added["ips"][0]["address"]),
        (&json!("1.1.0"), &json!("10.65.3.3/32"))
    );
    assert_eq!(world.check(&pod, &added), Ok(None));
    world.del(&pod).unwrap();
    world.assert_nothing_left();
}

#[test]
fn an_address_plugin_that_speaks_none_of_our_versions_is_refused() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    world.plugin("ancient", r#"echo '{"cniVersion":"0.2.0","supportedVersions":["0.1.0","0.2.0"]}'"#);
    world.changes.insert("ipam".into(), json!({"type": "ancient"}));
    let error = world.add(&Pod::new("front")).unwrap_err();
    assert_eq!(error["code"], 1, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("ancient"), "{error}");
}

#[test]
fn an_address_plugin_that_is_replaced_is_asked_for_its_versions_again() {
    let mut world = World::new();
    let _agent = world.willing_agent();
    world.changes.insert("ipam".into(), json!({"type": "growing"}));
    let version = |spoken: &str| {
        format!(
            "case $CNI_COMMAND in VERSION) echo '{{\"supportedVersions\":[{spoken}]}}';; \
             ADD) echo '{{\"ips\":[{{\"address\":\"10.65.3.3/24\"}}]}}';; esac"
        )
    };
    world.plugin("growing", &version("\"1.0.0\""));
    for name in ["a", "b"] {
        let pod = Pod::new(name);
        world.add(&pod).unwrap();
        world.del(&pod).unwrap();
    }
    assert_eq!(world.plugin_log("growing"), ["VERSION", "ADD", "DEL", "ADD", "DEL"]);
    world.plugin("growing", &version("\"1.0.0\",\"1.1.0\""));
    world.call("STATUS", &world.config("1.1.0"), None).unwrap();
    assert_eq!(world.plugin_log("growing")[5..], ["VERSION", "STATUS"]);
}
