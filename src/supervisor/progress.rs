//! Owns what one can see of a transaction under way, and of workers being replaced.

use super::pool::Pool;
use super::reload::{Reload, Stage, Trying};
use super::view::{PoolProgress, ReloadStage};
use super::{Phase, PoolId, Supervisor, Time};

/// Of a pool in which nothing is being replaced.
fn at_rest(pool: &Pool) -> ReloadStage {
    match pool.phase {
        Phase::BackingOff | Phase::Failed | Phase::Waiting => ReloadStage::Waiting,
        Phase::Running | Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => ReloadStage::Done,
    }
}

impl Supervisor {
    /// The transaction under way: how far it is, the number of its config, and each pool that takes part in it.
    pub fn reload_progress(&self) -> Option<(ReloadStage, u32, Vec<PoolProgress>)> {
        let Some(reload) = &self.reload else {
            let back = self.wishes.front().filter(|wish| wish.failure.is_some());
            return back.map(|_| (ReloadStage::RollingBack, self.revision, Vec::new()));
        };
        let stage = match &reload.stage {
            _ if reload.wish.failure.is_some() => ReloadStage::RollingBack,
            Stage::Trying | Stage::Proving => ReloadStage::Canary,
            Stage::Undoing { .. } => ReloadStage::RollingBack,
            Stage::Rolling => ReloadStage::Rolling,
            Stage::Baking => ReloadStage::Baking,
        };
        let taking_part =
            |id: &&PoolId| reload.taking_part.contains(id) || reload.plan.get(id).is_some_and(|p| p.trial != Trying::No);
        let pools = reload.order.iter().filter(taking_part).filter_map(|id| self.progress_in(reload, *id)).collect();
        Some((stage, reload.revision, pools))
    }

    fn progress_in(&self, reload: &Reload, id: PoolId) -> Option<PoolProgress> {
        let Some(pool) = self.pools.get(&id) else {
            return reload.plan.get(&id).map(|_| PoolProgress {
                pool: id,
                stage: ReloadStage::Waiting,
                ..PoolProgress::none(id)
            });
        };
        let stage = match (&reload.stage, reload.plan.get(&id).map(|p| p.trial)) {
            (Stage::Trying, Some(Trying::Later)) => ReloadStage::Waiting,
            (Stage::Trying | Stage::Proving, _) => ReloadStage::Canary,
            (Stage::Undoing { .. }, _) => ReloadStage::RollingBack,
            (Stage::Rolling, _) if reload.waiting.contains(&id) => ReloadStage::Rolling,
            (Stage::Baking, _) if !pool.spec.rollout.bake.is_zero() => ReloadStage::Baking,
            (Stage::Rolling | Stage::Baking, _) if pool.is_draining() => ReloadStage::Draining,
            (Stage::Rolling | Stage::Baking, _) => at_rest(pool),
        };
        Some(PoolProgress { stage, ..pool.progress() })
    }

    /// How far the replacing of a pool's workers is.
    pub fn roll_progress(&self, id: PoolId) -> Option<PoolProgress> {
        let pool = self.pools.get(&id)?;
        let stage = match (pool.is_rolling(), pool.is_draining()) {
            (true, _) => ReloadStage::Rolling,
            (false, true) => ReloadStage::Draining,
            (false, false) => at_rest(pool),
        };
        Some(PoolProgress { stage, ..pool.progress() })
    }

    /// When the last reload failed, and why; `None` once one has succeeded since.
    pub fn reload_failure(&self) -> Option<(Time, &str)> {
        self.failed_at.as_ref().map(|(at, why)| (*at, why.as_str()))
    }

    /// The revision that a rollback would bring back.
    pub fn rollback_target(&self) -> Option<u32> {
        self.kept.as_ref().map(|kept| kept.revision)
    }

    /// The same for an answer.
    pub(super) fn reload_words(&self) -> String {
        let Some((stage, revision, pools)) = self.reload_progress() else { return "the config is being read".to_owned() };
        let words = |p: &PoolProgress| {
            let name = self.pools.get(&p.pool).map_or("?", |p| p.spec.name.as_str());
            format!("{name}: {}, {} of {} replaced", p.stage.word(), p.replaced, p.total)
        };
        let pools: Vec<String> = pools.iter().map(words).collect();
        format!("config {revision}: {}{}{}", stage.word(), if pools.is_empty() { "" } else { "; " }, pools.join("; "))
    }
}
