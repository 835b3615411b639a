//! A control plane that laboratories use one after the other.
//!
//! Owns: starting it without nodes, bringing its machine into a laboratory, and setting it back afterwards.
//! Does not: know who uses it; one laboratory at a time does.
//! Invariant: set back means that the database holds what it held before the first laboratory, and that the controllers
//! have nothing to add; else it is an error, and the control plane is not to be used again.

use std::thread;
use std::time::{Duration, Instant};

use tortie_store::kind::Kind;
use tortie_store::kube::{Delete, Query};

use super::database::{Contents, Database};
use super::{API, Component, Pki, find_components};
use crate::api::{explain, known};
use crate::error::{Result, bad, no};
use crate::lab::Lab;
use crate::names::LabName;
use crate::plan::{Dataplane, Families, Plan};
use crate::state::{self, Lock};
use crate::underlay;

/// Controllers that have heard of a change have acted on it by then.
const QUIET: Duration = Duration::from_millis(200);
/// How often they are looked after.
const PAUSE: Duration = Duration::from_millis(50);
/// At the start the API server has more to write down: its groups, default accounts, what may be done by whom.
const QUIET_AT_START: Duration = Duration::from_secs(1);
/// A busy machine needs more; what is never quiet is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A control plane without nodes. It is a laboratory of that name, which `down` removes like any other; it stays when
/// this value goes.
#[derive(Debug)]
pub struct ControlPlane {
    lab: Lab,
    database: Database,
    /// What is in the database when nobody has used it.
    fresh: Contents,
}

impl ControlPlane {
    /// Starts one for laboratories with these families, and installs what agents need.
    pub fn start(name: &LabName, families: Families, patience: Duration) -> Result<Self> {
        let mut plan = Plan::new(families, 1500, &[Dataplane::Bpf])?;
        plan.nodes.clear();
        let mut lab = Lab::new(name, plan, find_components()?)?;
        let lock = Lock::take(name)?;
        let built = build(&mut lab, patience);
        drop(lock);
        let (database, fresh) = built.map_err(|error| lab.unmade(error))?;
        Ok(Self { lab, database, fresh })
    }

    /// As [`crate::UpOptions`] takes it.
    pub fn name(&self) -> &LabName {
        &self.lab.name
    }

    /// Sets it back; the laboratory that used it is down.
    pub fn reset(&self) -> Result<()> {
        if let Some(dead) = Component::ALL.into_iter().find(|it| !self.lab.component_is_alive(*it)) {
            return Err(no!("{} does not run any more", dead.program()));
        }
        self.release_ports()?;
        // Before what controllers have made goes, so that they do not make it again.
        self.database.write(&self.fresh.differences(&self.database.read()?).of_controllers())?;
        let deadline = Instant::now() + PATIENCE;
        let mut changed = Instant::now();
        while changed.elapsed() < QUIET {
            thread::sleep(PAUSE);
            let differences = self.fresh.differences(&self.database.read()?);
            if differences.is_empty() {
                continue;
            }
            if Instant::now() > deadline {
                return Err(no!("its database does not stay as it was: {differences}"));
            }
            self.database.write(&differences)?;
            changed = Instant::now();
        }
        Ok(())
    }

    /// The API server remembers in its own memory which node ports are taken; a Service has to be deleted by it.
    fn release_ports(&self) -> Result<()> {
        let (cluster, kind): (_, &'static Kind) = (self.lab.cluster()?, known("", "Service")?);
        for service in cluster.list(kind, &Query::default()).map_err(explain)? {
            let (namespace, name) = (&service.key.namespace, &service.key.name);
            if (namespace.as_str(), name.as_str()) != ("default", "kubernetes") {
                cluster.delete(kind, namespace, name, &Delete::default()).map_err(explain)?;
            }
        }
        Ok(())
    }
}

fn build(lab: &mut Lab, patience: Duration) -> Result<(Database, Contents)> {
    lab.begin()?;
    underlay::build_lone_machine(&lab.name.machine(API), &lab.state.plan.api)?;
    lab.make_cgroup(API)?;
    lab.start_control_plane()?;
    lab.finish_control_plane(patience)?;
    let database = Database::of(lab)?;
    let fresh = when_quiet(&database, Instant::now() + patience)?;
    lab.state.complete = true;
    lab.save()?;
    Ok((database, fresh))
}

/// What is in the database once nobody writes to it any more.
fn when_quiet(database: &Database, deadline: Instant) -> Result<Contents> {
    let mut last = database.read()?;
    let mut changed = Instant::now();
    while changed.elapsed() < QUIET_AT_START {
        thread::sleep(PAUSE);
        let now = database.read()?;
        let differences = last.differences(&now);
        if differences.is_empty() {
            continue;
        }
        if Instant::now() > deadline {
            return Err(no!("a control plane that nobody uses keeps changing: {differences}"));
        }
        (last, changed) = (now, Instant::now());
    }
    Ok(last)
}

impl Lab {
    /// Brings the lender's machine onto our subnet, and makes our nodes known to its authority.
    pub(crate) fn borrow_control_plane(&self) -> Result<()> {
        let lender = state::load(self.owner())?;
        if lender.plan.families != self.state.plan.families {
            return Err(bad!("the control plane of {} is for other address families", self.owner()));
        }
        let (plan, namespace) = (&self.state.plan, self.owner().machine(API));
        underlay::move_machine(&self.name, plan, API, &namespace, &plan.api)?;
        self.make_agents_identities(&Pki::open(&self.pki_directory())?)
    }
}
