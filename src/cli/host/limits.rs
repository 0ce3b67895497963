//! Owns the resource limits that a pool asks for, against what the kernel takes of this user.

use super::Found;
use crate::config::spec::Pool;
use crate::runtime::refused_limit;

pub(super) fn check(pool: &Pool, found: &mut Found<'_>) {
    for (resource, bounds) in &pool.identity.limits {
        if let Some(why) = refused_limit(*resource, *bounds) {
            let key = format!("limits.{}", resource.key());
            let place = found.pool(&pool.spec.name, &key);
            found.error(
                place,
                format!("pool.{}.{key}: {why}", pool.spec.name),
                "ask for less, or leave the key out: the master's own limit",
            );
        }
    }
}
