//! Owns the core written down: all that it knows, at any moment between two events. Indexes, counts and armed timers are left out, and made anew
//! from the rest when it is read. What is read makes the same decisions as what was written.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Supervisor;
use super::timers::{Key, Timers};

impl Serialize for Supervisor {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Supervisor::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for Supervisor {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Supervisor, D::Error> {
        let mut core = Supervisor::deserialize(from)?;
        core.rebuild();
        Ok(core)
    }
}

impl Supervisor {
    fn rebuild(&mut self) {
        self.index_order();
        for pool in self.pools.values_mut() {
            pool.rebuild(&mut self.timers);
        }
        for (id, pending) in &self.pending {
            self.timers.restore(Key::Command(*id), pending.armed);
        }
        self.timers.restore(Key::Shutdown, self.shutdown_armed);
        self.timers.restore(Key::Linger, self.linger_armed);
        self.timers.restore(Key::Reload, self.reload_armed);
        if self.has_exited() {
            self.timers = Timers::default();
        }
    }
}

/// A spec that several have: by value. Who has the same one shares it again afterwards.
pub(super) mod shared {
    use std::rc::Rc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::super::PoolSpec;

    pub(in super::super) fn serialize<S: Serializer>(spec: &Rc<PoolSpec>, to: S) -> Result<S::Ok, S::Error> {
        PoolSpec::serialize(spec, to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rc<PoolSpec>, D::Error> {
        PoolSpec::deserialize(from).map(Rc::new)
    }
}

/// Workers by slot and generation, which they know themselves: a list.
pub(super) mod by_place {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::super::worker::Worker;

    pub(in super::super) fn serialize<S: Serializer>(workers: &BTreeMap<(u32, u32), Worker>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(workers.values())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<(u32, u32), Worker>, D::Error> {
        let workers = Vec::<Worker>::deserialize(from)?;
        Ok(workers.into_iter().map(|worker| ((worker.id.slot, worker.id.generation), worker)).collect())
    }
}
