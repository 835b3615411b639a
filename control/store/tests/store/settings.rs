//! Settings from objects, a file and the environment.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tortie_model::settings::{
    ConnectTime, EndpointToHost, Listen, LoopPrevention, MapSizes, Settings, Timeout,
};
use tortie_store::dir::content::{self, Content};
use tortie_store::settings::{Layer, Layers, local, names, parameter};
use tortie_store::wire::Noun;
use tortie_store::{Effect, Rejection};

fn felix(spec: &str) -> Content {
    let text = format!(
        "{{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {{name: default}}, spec: {{{spec}}}}}"
    );
    content::read(Path::new("f.yaml"), text.as_bytes(), &Content::default())
}

fn layer(spec: &str) -> Layer {
    let content = felix(spec);
    assert!(content.rejections.is_empty(), "{:?}", content.rejections);
    match &*content.entries.values().next().unwrap().noun {
        Noun::Settings(layer) => layer.clone(),
        other => panic!("{other:?}"),
    }
}

fn merged(spec: &str) -> Settings {
    Layers { default: Some(layer(spec)), ..Layers::default() }.merge()
}

fn environment(variables: &[(&str, &str)]) -> (Layer, Vec<String>) {
    let variables: Vec<_> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let (layer, rejections) = local::environment(&variables);
    (layer, rejections.iter().map(Rejection::to_string).collect())
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_object_sets_what_it_names_and_nothing_else() {
    let settings = merged(
        "interfacePrefix: tap, bpfDataIfacePattern: '^ens', bpfMapSizeConntrack: 1000, bpfMapSizeConntrackScaling: disabled, \
         bpfMapSizeNATFrontend: 1, bpfMapSizeNATBackend: 2, bpfMapSizeNATAffinity: 3, bpfMapSizeRoute: 4, bpfMapSizeIPSets: 5, bpfPSNATPorts: '100:200', \
         natPortRange: '300:400', iptablesMarkMask: 4278190080, defaultEndpointToHostAction: ACCEPT, bpfRedirectToPeer: Disabled, \
         bpfAttachType: TC, logSeverityScreen: Warning, bpfConnectTimeLoadBalancing: Enabled, \
         cgroupV2Path: /run/cgroup, serviceLoopPrevention: Reject, bpfExternalServiceMode: dsr, bpfDSROptoutCIDRs: [192.0.2.0/24, '2001:db8::/32'], \
         bpfMaglevMaxServices: 7, bpfMaglevMaxEndpointsPerService: 3000, \
         bpfExcludeCIDRsFromNAT: [10.96.0.10/32, 'fd96::a/128'], \
         bpfConntrackTimeouts: {tcpEstablished: 1h30m, udpTimeout: Auto, creationGracePeriod: 10s}",
    );
    let mut expected = Settings {
        interface_prefix: "tap".into(),
        data_interface_pattern: "^ens".into(),
        map_sizes: MapSizes {
            flows: Some(1000),
            flows_stay: true,
            frontends: Some(1),
            backends: Some(2),
            affinities: Some(3),
            routes: Some(4),
            addresses: Some(5),
        },
        source_port_range: (100, 200),
        nat_port_range: (300, 400),
        mark_mask: 0xff00_0000,
        endpoint_to_host: EndpointToHost::Accept,
        redirect_to_peer: false,
        force_clsact: true,
        connect_time: ConnectTime::Enabled,
        cgroup_path: Some("/run/cgroup".into()),
        direct_return: true,
        loop_prevention: LoopPrevention::Reject,
        direct_return_opt_outs: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        untranslated: vec!["10.96.0.10/32".parse().unwrap(), "fd96::a/128".parse().unwrap()],
        maglev_services: 7,
        maglev_endpoints: 3000,
        log_level: "warn".into(),
        ..Settings::default()
    };
    expected.timeouts.tcp_established = Timeout::Fixed(5400 * SECOND);
    expected.timeouts.udp = Timeout::Auto;
    assert_eq!(settings, expected);
    assert_eq!(merged("bpfLogLevel: ''"), Settings::default(), "an empty text is as if it were not there");
}

#[test]
fn address_ranges_are_a_list_or_text_with_commas() {
    let (layer, rejections) = environment(&[("FELIX_BPFDSROPTOUTCIDRS", "192.0.2.0/24, 2001:db8::/32")]);
    assert_eq!(rejections, [""; 0]);
    let settings = Layers { environment: layer, ..Layers::default() }.merge();
    assert_eq!(
        settings.direct_return_opt_outs,
        merged("bpfDSROptoutCIDRs: [192.0.2.0/24, '2001:db8::/32']").direct_return_opt_outs
    );
    let content = felix("bpfDSROptoutCIDRs: [everybody]");
    assert_eq!(content.rejections.len(), 1, "{:?}", content.rejections);
}

#[test]
fn health_and_metrics_have_calicos_names_and_defaults() {
    let defaults = Settings::default();
    assert_eq!(defaults.health, Listen { enabled: false, host: "localhost".into(), port: 9099 });
    assert_eq!(defaults.metrics, Listen { enabled: false, host: String::new(), port: 9091 });
    assert_eq!((defaults.process_metrics, defaults.watchdog, defaults.hang_after), (true, 90 * SECOND, None));
    let yaml = merged(
        "healthEnabled: true, healthHost: '::1', healthPort: 9100, prometheusMetricsEnabled: true, \
         prometheusMetricsHost: 10.0.0.1, prometheusMetricsPort: 9092, prometheusProcessMetricsEnabled: false, \
         dataplaneWatchdogTimeout: 2m, debugSimulateDataplaneHangAfter: 1s",
    );
    let expected = Settings {
        health: Listen { enabled: true, host: "::1".into(), port: 9100 },
        metrics: Listen { enabled: true, host: "10.0.0.1".into(), port: 9092 },
        process_metrics: false,
        watchdog: 120 * SECOND,
        hang_after: Some(SECOND),
        ..Settings::default()
    };
    assert_eq!(yaml, expected);
    let (text, rejections) = environment(&[
        ("FELIX_HEALTHENABLED", "true"),
        ("FELIX_HEALTHHOST", "::1"),
        ("FELIX_HEALTHPORT", "9100"),
        ("FELIX_PROMETHEUSMETRICSENABLED", "YES"),
        ("FELIX_PROMETHEUSMETRICSHOST", "10.0.0.1"),
        ("FELIX_PROMETHEUSMETRICSPORT", "9092"),
        ("FELIX_PROMETHEUSPROCESSMETRICSENABLED", "0"),
        ("FELIX_DATAPLANEWATCHDOGTIMEOUT", "120"),
        ("FELIX_DEBUGSIMULATEDATAPLANEHANGAFTER", "1"),
    ]);
    assert_eq!(rejections, [""; 0]);
    assert_eq!(Layers { environment: text, ..Layers::default() }.merge(), expected);
}

#[test]
fn the_environment_wins_over_the_file_over_the_node_over_the_default() {
    let mut layers = Layers { default: Some(layer("interfacePrefix: a")), ..Layers::default() };
    let mut names = vec![layers.merge().interface_prefix];
    layers.node = Some(layer("interfacePrefix: b"));
    names.push(layers.merge().interface_prefix);
    layers.file = local::file(Path::new("felix.cfg"), "[global]\nInterfacePrefix = c\n").0;
    names.push(layers.merge().interface_prefix);
    layers.environment = environment(&[("FELIX_INTERFACEPREFIX", "d")]).0;
    names.push(layers.merge().interface_prefix);
    assert_eq!(names, ["a", "b", "c", "d"]);
}

#[test]
fn the_newer_name_of_connect_time_balancing_wins_over_the_older_one_of_the_same_source() {
    for (spec, expected) in [
        ("bpfConnectTimeLoadBalancingEnabled: true", ConnectTime::Enabled),
        ("bpfConnectTimeLoadBalancingEnabled: false", ConnectTime::Disabled),
        ("bpfConnectTimeLoadBalancing: tcp, bpfConnectTimeLoadBalancingEnabled: false", ConnectTime::Tcp),
        (
            "bpfConnectTimeLoadBalancingEnabled: true, bpfConnectTimeLoadBalancing: Disabled",
            ConnectTime::Disabled,
        ),
        ("logSeverityScreen: Info", ConnectTime::Tcp),
    ] {
        assert_eq!(merged(spec).connect_time, expected, "{spec}");
    }
    let mut layers = Layers { default: Some(layer("bpfConnectTimeLoadBalancing: TCP")), ..Layers::default() };
    layers.environment = environment(&[("FELIX_BPFCONNECTTIMELOADBALANCINGENABLED", "false")]).0;
    assert_eq!(layers.merge().connect_time, ConnectTime::Disabled, "a later source wins by either name");
}

#[test]
fn text_forms_mean_what_yaml_forms_mean() {
    let (text, rejections) = environment(&[
        ("FELIX_BPFMapSizeConntrack", "1000"),
        ("felix_iptablesMarkMask", "0xff000000"),
        ("FELIX_BPFPSNATPORTS", "100:200"),
        ("FELIX_BPFCONNTRACKTIMEOUTS", "tcpSynSent=10s,icmpTimeout=Auto"),
        ("FELIX_DATASTORETYPE", "kubernetes"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(rejections, [""; 0]);
    let from_text = Layers { environment: text, ..Layers::default() }.merge();
    let from_yaml = merged(
        "bpfMapSizeConntrack: 1000, iptablesMarkMask: 4278190080, bpfPSNATPorts: '100:200', \
         bpfConntrackTimeouts: {tcpSynSent: 10s, icmpTimeout: auto}",
    );
    assert_eq!(from_text, from_yaml);
}

#[test]
fn values_that_are_wrong_are_refused_with_the_way_out() {
    for (spec, expected) in [
        (
            "interfacePrefix: 'a,b'",
            "spec.interfacePrefix: several prefixes are not supported by this version; give one prefix",
        ),
        (
            "interfacePrefix: 'a/b'",
            "spec.interfacePrefix: \"a/b\" is no start of an interface name; write it like cali",
        ),
        ("interfacePrefix: 3", "spec.interfacePrefix: found 3, expected text; put it in quotes"),
        (
            "bpfDataIfacePattern: '('",
            "spec.bpfDataIfacePattern: \"(\" is no regular expression: error: unclosed group; correct the expression",
        ),
        (
            "bpfMapSizeConntrack: many",
            "spec.bpfMapSizeConntrack: found text \"many\", expected a whole number; write a whole number without quotes",
        ),
        (
            "bpfMapSizeConntrack: 0",
            "spec.bpfMapSizeConntrack: 0 is not between 1 and 268435456; use 1 to 268435456",
        ),
        (
            "bpfMapSizeConntrackScaling: Double",
            "spec.bpfMapSizeConntrackScaling: \"Double\" is unknown; use DoubleIfFull or Disabled",
        ),
        ("bpfMaglevMaxServices: 0", "spec.bpfMaglevMaxServices: 0 is not between 1 and 3000; use 1 to 3000"),
        (
            "bpfMaglevMaxEndpointsPerService: 3001",
            "spec.bpfMaglevMaxEndpointsPerService: 3001 is not between 1 and 3000; use 1 to 3000",
        ),
        ("bpfPSNATPorts: '2-3'", "spec.bpfPSNATPorts: \"2-3\" is no port range; write it like 20000:29999"),
        ("bpfPSNATPorts: '3:2'", "spec.bpfPSNATPorts: 2 is below port 3; set it to 3 or more"),
        ("bpfPSNATPorts: '0:2'", "spec.bpfPSNATPorts: 0 is no port number; use 1 to 65535"),
        (
            "iptablesMarkMask: 1",
            "spec.iptablesMarkMask: the mask has fewer than 8 bits; set at least 8 bits, such as 0xffff0000",
        ),
        (
            "defaultEndpointToHostAction: Deny",
            "spec.defaultEndpointToHostAction: \"Deny\" is unknown; use Drop, Accept or Return",
        ),
        ("bpfRedirectToPeer: true", "spec.bpfRedirectToPeer: found true, expected text; put it in quotes"),
        ("bpfAttachType: XDP", "spec.bpfAttachType: \"XDP\" is unknown; use TC, TCX or Netkit"),
        (
            "logSeverityScreen: loud",
            "spec.logSeverityScreen: \"loud\" is unknown; use Trace, Debug, Info, Warning, Error, Fatal or None",
        ),
        (
            "bpfConnectTimeLoadBalancing: UDP",
            "spec.bpfConnectTimeLoadBalancing: \"UDP\" is unknown; use TCP, Enabled or Disabled",
        ),
        (
            "bpfConnectTimeLoadBalancingEnabled: maybe",
            "spec.bpfConnectTimeLoadBalancingEnabled: found text \"maybe\", expected true or false; write true or false without quotes",
        ),
        (
            "cgroupV2Path: cgroup",
            "spec.cgroupV2Path: \"cgroup\" is no path from the root; write it like /sys/fs/cgroup",
        ),
        (
            "bpfConntrackTimeouts: 5s",
            "spec.bpfConntrackTimeouts.5s: \"\" is no duration; write it like 90s, 1h30m or 100ms",
        ),
        (
            "bpfConntrackTimeouts: {udpTimeout: 5}",
            "spec.bpfConntrackTimeouts.udpTimeout: found 5, expected text; put it in quotes",
        ),
        (
            "bpfConntrackTimeouts: {udpTimeout: 5x}",
            "spec.bpfConntrackTimeouts.udpTimeout: \"5x\" is no duration; write it like 90s, 1h30m or 100ms",
        ),
        (
            "bpfConntrackTimeouts: {udpTimeout: 0s}",
            "spec.bpfConntrackTimeouts.udpTimeout: a flow would end at once; give a duration above 0",
        ),
        (
            "bpfConntrackTimeouts: {udpTimout: 5s}",
            "spec.bpfConntrackTimeouts.udpTimout: unknown field; did you mean udpTimeout?",
        ),
        (
            "bpfEnabled: false",
            "spec.bpfEnabled: this version has no other data plane than eBPF, so that what runs goes on; set it to true, or leave it out; uninstall to take Tortie off the node",
        ),
        (
            "bpfEnabled: maybe",
            "spec.bpfEnabled: found text \"maybe\", expected true or false; write true or false without quotes",
        ),
        (
            "healthEnabled: maybe",
            "spec.healthEnabled: found text \"maybe\", expected true or false; write true or false without quotes",
        ),
        ("healthPort: 0", "spec.healthPort: 0 is no port number; use 1 to 65535"),
        (
            "dataplaneWatchdogTimeout: soon",
            "spec.dataplaneWatchdogTimeout: \"soon\" is no duration; write it like 90s, 1h30m or 100ms",
        ),
        (
            "dataplaneWatchdogTimeout: 1ms",
            "spec.dataplaneWatchdogTimeout: \"1 ms\" is no time that a main loop can keep to; write it like 90s, or 0s for no limit",
        ),
        (
            "healthHost: no such host",
            "spec.healthHost: \"no such host\" is no host; write it like localhost, 127.0.0.1 or ::1",
        ),
        ("interfaceprefix: a", "spec.interfaceprefix: unknown field; did you mean interfacePrefix?"),
    ] {
        let said: Vec<_> = felix(spec).rejections.iter().map(|it| it.to_string()).collect();
        assert_eq!(said, [format!("f.yaml:1: FelixConfiguration default: {expected}")], "{spec}");
    }
}

#[test]
fn switching_on_what_is_on_is_accepted_in_every_form() {
    assert_eq!(merged("bpfEnabled: true"), Settings::default());
    assert_eq!(merged("bpfEnabled: 'true'"), Settings::default());
    let (_, said) = environment(&[("FELIX_BPFENABLED", "true")]);
    assert!(said.is_empty(), "{said:?}");
    let (_, said) = environment(&[("FELIX_BPFENABLED", "false")]);
    assert!(
        said[0].starts_with("FELIX_BPFENABLED: bpfEnabled: this version has no other data plane"),
        "{said:?}"
    );
}

#[test]
fn settings_that_nothing_acts_on_are_said_to_be_so() {
    let content = felix("wireguardEnabled: true");
    assert_eq!(
        content.rejections[0].to_string(),
        "f.yaml:1: FelixConfiguration default: spec.wireguardEnabled: this version does not act on it; do not rely on it"
    );
    assert_eq!(content.rejections[0].effect, Effect::NotEnforced);
    let text =
        "{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: other}, spec: {}}";
    let content = content::read(Path::new("f.yaml"), text.as_bytes(), &Content::default());
    assert_eq!(
        content.rejections[0].to_string(),
        "f.yaml:1: FelixConfiguration other: metadata.name: only default and node.<name> are read; rename it"
    );
}

#[test]
fn a_wrong_variable_is_left_out_and_the_others_count() {
    let (layer, said) = environment(&[
        ("FELIX_INTERFACEPREFIX", "tap"),
        ("FELIX_BPFATTACHTYPE", "XDP"),
        ("FELIX_INTERFACEPREFX", "x"),
        ("FELIX_WIREGUARDENABLED", "true"),
        ("FELIX_BPFCONNTRACKTIMEOUTS", "udpTimeout=never"),
    ]);
    assert_eq!(Layers { environment: layer, ..Layers::default() }.merge().interface_prefix, "tap");
    assert_eq!(
        said,
        [
            "FELIX_BPFATTACHTYPE: bpfAttachType: \"XDP\" is unknown; use TC, TCX or Netkit",
            "FELIX_INTERFACEPREFX: INTERFACEPREFX: unknown field; did you mean interfacePrefix?",
            "FELIX_WIREGUARDENABLED: wireguardEnabled: this version does not act on it; do not rely on it",
            "FELIX_BPFCONNTRACKTIMEOUTS: bpfConntrackTimeouts.udpTimeout: \"never\" is no duration; write it like 90s, 1h30m or 100ms",
        ]
    );
}

#[test]
fn a_file_names_its_lines() {
    let text = "# comment\n[global]\nInterfacePrefix = tap\nnonsense\nBPFAttachType = XDP\n[other]\nInterfacePrefix = eni\n";
    let (layer, rejections) = local::file(Path::new("felix.cfg"), text);
    assert_eq!(Layers { file: layer, ..Layers::default() }.merge().interface_prefix, "tap");
    let said: Vec<_> = rejections.iter().map(Rejection::to_string).collect();
    assert_eq!(
        said,
        [
            "felix.cfg:4: \"nonsense\" is no setting; write it like InterfacePrefix = cali",
            "felix.cfg:5: bpfAttachType: \"XDP\" is unknown; use TC, TCX or Netkit",
        ]
    );
}

#[test]
fn durations_are_read_as_go_writes_them() {
    use tortie_store::settings::value::duration;
    for (text, seconds) in
        [("90s", 90.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("100ms", 0.1), ("2m3s", 123.0), ("500us", 0.0005)]
    {
        assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
    }
    for text in ["", "5", "s", "5 s", "-5s", "1..5s", "5d", "9999999999999999h"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

/// What nobody may miss: a setting that this version acts on.
#[test]
fn every_setting_that_is_acted_on_is_in_the_document_and_no_other() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configure.md")).unwrap();
    let rows = document.lines().skip_while(|line| !line.starts_with("| setting |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    // `a`, `b` in the first column.
    let names =
        rows.filter_map(|row| row.split('|').nth(1)).flat_map(|column| column.split('`').skip(1).step_by(2));
    let told: BTreeSet<&str> = names.collect();
    let is_acted_on = |name: &&str| !matches!(parameter::read(name, &serde_json::Value::Null), Ok(None));
    let acted_on: BTreeSet<&str> = names::FIELDS.iter().copied().filter(is_acted_on).collect();
    assert!(acted_on.len() > 30, "{acted_on:?}");
    assert_eq!(told, acted_on);
}
