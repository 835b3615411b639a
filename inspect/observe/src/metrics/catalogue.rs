//! Every metric that the agent exports.
//!
//! Owns: the list. Does not: know values.
//! Invariant: a `felix_` name means what it means in Calico; where the type differs the help says so.

use super::{Kind, Metric};

macro_rules! metrics {
    ($($const:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $const: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )+
        /// Every metric, in the order of the documentation.
        pub const ALL: &[&Metric] = &[$(&$const,)+];
    };
}

metrics! {
    BUILD_INFO = Gauge "tortie_build_info" ["version", "kernel", "attach"]
        "Always 1; version of the agent, release of the kernel, and how programs are attached (tcx or clsact).";
    COMPONENT_LIVE = Gauge "tortie_component_live" ["component"]
        "1 while this part of the agent moves; 0 makes /liveness fail.";
    COMPONENT_READY = Gauge "tortie_component_ready" ["component"]
        "1 while this part of the agent is as desired; 0 makes /readiness fail.";
    LOOP_AGE = Gauge "tortie_main_loop_idle_seconds" []
        "Seconds since the main loop last turned; it turns at least every second.";

    RESYNC_STATE = Gauge "felix_resync_state" []
        "State of the datastore: 1 waiting for it, 2 reading what it holds, 3 in sync.";
    RESYNCS_STARTED = Counter "felix_resyncs_started" []
        "Times that everything was read from the datastore.";
    STORE_CONNECTED = Gauge "tortie_store_connected" []
        "1 while the API server answers, and always for a store on this machine; what is in force does not need it.";
    STORE_REVISION = Gauge "tortie_store_revision" []
        "Number of the datastore's last batch of changes that was taken in.";
    STORE_CHANGES = Counter "tortie_store_changes_total" ["kind"]
        "Changes of objects taken in from the datastore, by kind of object.";
    REJECTED = Gauge "tortie_rejected_objects" ["kind", "effect"]
        "Objects and settings that are not in force as written, by kind and by what holds meanwhile (keeps-last, absent, isolates, not-enforced).";
    CONFLICTS = Gauge "tortie_conflicts" []
        "Addresses and front ends that more than one object claims.";
    CLUSTER_HOSTS = Gauge "felix_cluster_num_hosts" []
        "Nodes in the cluster.";
    CLUSTER_POLICIES = Gauge "felix_cluster_num_policies" []
        "Policies in the cluster.";
    CLUSTER_WORKLOADS = Gauge "felix_cluster_num_workload_endpoints" []
        "Pods in the cluster.";
    CLUSTER_SERVICES = Gauge "tortie_cluster_services" []
        "Services in the cluster.";

    CALC_SECONDS = Histogram "felix_calc_graph_update_time_seconds" []
        "Time to work out what follows from a batch of changes (in Calico a summary).";
    CALC_OUTPUT = Counter "felix_calc_graph_output_events" []
        "Changes of what this node's data plane must do.";
    APPLY_SECONDS = Histogram "felix_int_dataplane_apply_time_seconds" []
        "Time to write what differs into the kernel (in Calico a summary).";
    APPLY_FAILURES = Counter "felix_int_dataplane_failures" []
        "Elements that could not be written into the kernel; they are tried again.";
    TABLE_WRITES = Counter "tortie_table_writes_total" []
        "Elements of maps, programs and links that were written or removed.";
    DIRTY = Gauge "tortie_dirty_objects" ["area"]
        "Things that are not in force as desired, by area.";
    KERNEL_RESYNCS = Counter "tortie_kernel_resyncs_total" ["trigger"]
        "Comparisons of everything in the kernel with what should be there, by what asked for it (timer, request).";
    KERNEL_READ_FAILURES = Counter "tortie_kernel_read_failures_total" []
        "Times that the kernel's state could not be read.";
    LINKS_LOST = Counter "tortie_links_lost_total" ["kind"]
        "Programs that somebody took off an interface and that were put back, by kind of interface.";
    LINK_CHECK_SECONDS = Histogram "tortie_link_check_seconds" []
        "Time to look whether every interface still carries its programs; done once a second.";
    GENERATION = Gauge "tortie_policy_generation" []
        "The last policy generation handed out; grows with every change of policy that is in force.";

    LOCAL_ENDPOINTS = Gauge "felix_active_local_endpoints" []
        "Pods attached to this node.";
    LOCAL_POLICIES = Gauge "felix_active_local_policies" []
        "Policies that select a pod of this node.";
    POLICY_PROGRAMS = Gauge "tortie_policy_programs" []
        "Policy programs in the kernel; endpoints with the same policies share one.";
    BPF_ENDPOINTS = Gauge "felix_bpf_dataplane_endpoints" []
        "Endpoints that the BPF data plane takes care of.";
    BPF_HAPPY = Gauge "felix_bpf_happy_dataplane_endpoints" []
        "Endpoints whose programs and policy are in force.";
    BPF_DIRTY = Gauge "felix_bpf_dirty_dataplane_endpoints" []
        "Endpoints whose programs or policy are not in force.";
    PACKET_PROGRAMS = Gauge "tortie_packet_programs" []
        "Packet programs of this version in the kernel.";
    PROGRAM_BYTES = Gauge "tortie_packet_program_memory_bytes" []
        "Kernel memory of the packet programs.";
    LINKS = Gauge "tortie_links" ["kind", "direction"]
        "Programs of ours on interfaces, by kind of interface and direction as the interface sees it.";

    CNI_REQUESTS = Counter "tortie_cni_requests_total" ["verb", "result"]
        "Requests of the CNI plugin, by verb and result (ok, or the code of the refusal).";
    CNI_SECONDS = Histogram "tortie_cni_request_duration_seconds" ["verb"]
        "Time from a request of the CNI plugin to its answer.";

    DROPPED_PACKETS = Counter "tortie_dropped_packets_total" ["hook", "reason"]
        "Packets dropped, by hook and reason; `tortie drops` explains each reason.";
    DROPPED_BYTES = Counter "tortie_dropped_bytes_total" ["hook", "reason"]
        "Bytes of dropped packets from the IP header on.";
    DROP_EVENTS_LOST = Counter "tortie_drop_events_lost_total" []
        "Dropped packets that were counted but not told, because the ring buffer was full.";
    FLOWS = Gauge "tortie_flows" ["family", "state"]
        "Flows that the last sweep of the tables saw: established, or half-open (the other side has not answered yet).";
    MAP_ENTRIES = Gauge "tortie_map_entries" ["map"]
        "Entries in a map.";
    MAP_MAX = Gauge "tortie_map_max_entries" ["map"]
        "The most entries that a map holds.";
    MAP_BYTES = Gauge "tortie_map_memory_bytes" ["map"]
        "Kernel memory of a map.";

    CONNTRACK_USED = Gauge "felix_bpf_conntrack_used" ["type"]
        "Entries that the last sweep of the flow tables saw, both families; type is always total.";
    CONNTRACK_SWEEPS = Counter "felix_bpf_conntrack_sweeps" []
        "Sweeps of the flow tables.";
    CONNTRACK_SWEEP_DURATION = Gauge "felix_bpf_conntrack_sweep_duration" []
        "Time that the last sweep of the flow tables took in the kernel, in nanoseconds.";
    CONNTRACK_SIZE = Gauge "felix_bpf_conntrack_map_size" []
        "The most entries that a family's table of established flows holds.";
    FLOWS_REMOVED = Counter "tortie_flow_entries_removed_total" ["family", "cause"]
        "Entries of flow tables that sweeps removed: expired, stale (their pod or node is gone), orphaned (half of a pair).";

    SCRAPE_SECONDS = Gauge "tortie_scrape_duration_seconds" []
        "Time that it took to collect these metrics.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "User and system CPU time of the agent in seconds.";
    PROCESS_RSS = Gauge "process_resident_memory_bytes" []
        "Resident memory of the agent in bytes.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Virtual memory of the agent in bytes.";
    PROCESS_FDS = Gauge "process_open_fds" []
        "Open file descriptors of the agent.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "The most file descriptors that the agent may open.";
    PROCESS_START = Gauge "process_start_time_seconds" []
        "When the agent started, in seconds since the epoch.";
}
