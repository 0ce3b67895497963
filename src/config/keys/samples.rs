//! Owns what the manual shows of a key beside its definition: an example, and the unit of a number. A key that is not listed shows the
//! example of its type, and has the unit of its type.

use super::{Key, Kind, When};

/// Path, unit of a number (`""`: that of its type), example in TOML syntax (`""`: that of its type).
const SAMPLES: &[(&str, &str, &str)] = &[
    ("include", "", "[\"conf.d/*.toml\"]"),
    ("master.name", "", "\"shop\""),
    ("master.runtime_dir", "", "\"/run/poolmaster\""),
    ("master.pidfile", "", "\"/run/shop.pid\""),
    ("master.socket", "", "\"/run/shop.sock\""),
    ("master.socket_mode", "", "\"0660\""),
    ("master.socket_users", "", "[\"deploy\"]"),
    ("master.default_pool", "", "\"web\""),
    ("master.umask", "", "\"0027\""),
    ("master.log.file", "", "\"/var/log/shop.log\""),
    ("master.log.keep", "files", "14"),
    ("master.http", "", "\"127.0.0.1:9101\""),
    ("master.trace", "", "\"/tmp/shop.trace\""),
    ("pool.*.use", "", "[\"python\"]"),
    ("pool.*.command", "", "\"uvicorn app:app --fd {fd}\""),
    ("pool.*.workers", "workers", "4"),
    ("pool.*.working_dir", "", "\"/srv/shop\""),
    ("pool.*.after", "", "[\"cache\"]"),
    ("pool.*.user", "", "\"www-data\""),
    ("pool.*.group", "", "\"www-data\""),
    ("pool.*.supplementary_groups", "", "[\"ssl-cert\"]"),
    ("pool.*.umask", "", "\"0027\""),
    ("pool.*.chroot", "", "\"/srv/jail\""),
    ("pool.*.nice", "nice value", "5"),
    ("pool.*.oom_score_adj", "points", "500"),
    ("pool.*.cpu_affinity", "CPU numbers", "[0, 1, 2, 3]"),
    ("pool.*.protocols", "", "[\"systemd\"]"),
    ("pool.*.argv0", "", "\"shop-web\""),
    ("pool.*.env_pass", "", "[\"PATH\", \"LC_*\"]"),
    ("pool.*.env_files", "", "[\".env\", \"-local.env\"]"),
    ("pool.*.ready", "", "\"notify\""),
    ("pool.*.start_timeout", "", "\"2m\""),
    ("pool.*.settle", "", "\"5s\""),
    ("pool.*.boot_error_codes", "exit codes", "[3, 4, 78]"),
    ("pool.*.max_starting", "workers", "4"),
    ("pool.*.spawn_interval", "", "\"200ms\""),
    ("pool.*.graceful_timeout", "", "\"2m\""),
    ("pool.*.stop_signal", "", "\"QUIT\""),
    ("pool.*.quick_signal", "", "\"INT\""),
    ("pool.*.reopen_signal", "", "\"USR1\""),
    ("pool.*.min_ready", "workers", "2"),
    ("pool.*.listen.*.backlog", "connections", "4096"),
    ("pool.*.listen.*.fastopen", "connections", "256"),
    ("pool.*.listen.*.mode", "", "\"0660\""),
    ("pool.*.listen.*.owner", "", "\"www-data\""),
    ("pool.*.listen.*.group", "", "\"www-data\""),
    ("pool.*.listen.*.device", "", "\"eth0\""),
    ("pool.*.listen.*.mark", "packet mark", "42"),
    ("pool.*.listen.*.share", "", "\"web.http\""),
    ("pool.*.listen.*", "", "\"unix:/run/shop/admin.sock\""),
    ("pool.*.env.*", "", "\"production\""),
    ("pool.*.probe.check", "", "\"http:unix:{runtime}/w{slot}.sock:/health\""),
    ("pool.*.probe.failures", "probes", "5"),
    ("pool.*.restart.policy", "", "\"on-failure\""),
    ("pool.*.restart.success_codes", "exit codes", "[0, 10]"),
    ("pool.*.restart.backoff.first", "", "\"100ms\""),
    ("pool.*.restart.backoff.base", "", "\"1s\""),
    ("pool.*.restart.backoff.factor", "times the last wait", "1.5"),
    ("pool.*.restart.backoff.max", "", "\"5m\""),
    ("pool.*.restart.backoff.jitter", "part of the wait", "0.5"),
    ("pool.*.restart.budget.failures", "early deaths", "10"),
    ("pool.*.restart.give_up_after", "probes", "20"),
    ("pool.*.recycle.max_lifetime", "", "\"12h\""),
    ("pool.*.recycle.lifetime_jitter", "part of the lifetime", "0.2"),
    ("pool.*.recycle.max_rss", "", "\"512M\""),
    ("pool.*.scale.up_signal", "", "\"RTMIN+1\""),
    ("pool.*.scale.down_signal", "", "\"RTMIN+2\""),
    ("pool.*.scale.restart_signal", "", "\"RTMIN+3\""),
    ("pool.*.scale.min", "workers", "2"),
    ("pool.*.scale.max", "workers", "16"),
    ("pool.*.scale.remove", "", "\"newest\""),
    ("pool.*.scale.queue.target", "waiting connections per worker", "1.0"),
    ("pool.*.scale.busy.target", "busy part, 0 to 1", "0.7"),
    ("pool.*.scale.cpu.target", "CPUs per worker", "0.8"),
    ("pool.*.scale.memory.budget", "", "\"4G\""),
    ("pool.*.scale.command.run", "", "[\"./queue-depth\"]"),
    ("pool.*.scale.command.target", "load per worker", "10.0"),
    ("pool.*.rollout.max_surge", "workers", "1"),
    ("pool.*.rollout.max_unavailable", "workers", "1"),
    ("pool.*.rollout.canary", "workers", "2"),
    ("pool.*.rollout.failures", "workers", "5"),
    ("pool.*.rollout.max_old_generations", "generations", "3"),
    ("pool.*.limits.nofile", "files", "65536"),
    ("pool.*.limits.core", "bytes", "\"unlimited\""),
    ("pool.*.limits.nproc", "processes", "4096"),
    ("pool.*.limits.memlock", "bytes", "\"64M\""),
    ("pool.*.limits.stack", "bytes", "\"8M:unlimited\""),
    ("pool.*.limits.as", "bytes", "\"4G\""),
    ("pool.*.limits.cpu", "seconds", "3600"),
    ("pool.*.limits.fsize", "bytes", "\"1G\""),
    ("pool.*.limits.memory_max", "bytes", "\"1G\""),
    ("pool.*.limits.memory_high", "bytes", "\"800M\""),
    ("pool.*.limits.cpu_max", "", "\"200%\""),
    ("pool.*.limits.cpu_weight", "weight", "50"),
    ("pool.*.limits.pids_max", "processes", "512"),
    ("pool.*.limits.io_weight", "weight", "50"),
    ("pool.*.log.stdout", "", "\"capture\""),
    ("pool.*.log.stderr", "", "\"file:/var/log/shop/web.err\""),
    ("pool.*.log.file", "", "\"/var/log/shop/web.log\""),
    ("pool.*.log.max_line", "", "\"64K\""),
    ("pool.*.log.rotate.size", "", "\"100M\""),
    ("pool.*.log.rotate.keep", "files", "14"),
    ("pool.*.hooks.pre_start", "", "[\"./migrate\", \"--check\"]"),
    ("master.hooks.starting", "", "[\"./mount-secrets\"]"),
    ("master.hooks.ready", "", "[\"./announce\", \"up\"]"),
    ("master.hooks.reload", "", "[\"./announce\", \"reloaded\"]"),
    ("master.hooks.exit", "", "[\"./announce\", \"down\"]"),
    ("pool.*.hooks.pre_spawn", "", "[\"./warm-cache\", \"{slot}\"]"),
    ("pool.*.hooks.post_spawn", "", "[\"./count\", \"{pool}\"]"),
    ("pool.*.hooks.ready", "", "[\"./register\", \"{pool}\", \"{slot}\"]"),
    ("pool.*.hooks.pre_stop", "", "[\"./deregister\", \"{pool}\", \"{slot}\"]"),
    ("pool.*.hooks.scaled", "", "[\"./note-size\", \"{pool}\"]"),
    ("pool.*.hooks.worker_exit", "", "[\"./notify-team\"]"),
];

impl Key {
    fn sample(&self) -> Option<&'static (&'static str, &'static str, &'static str)> {
        SAMPLES.iter().find(|(path, ..)| *path == self.path)
    }

    /// What a bare number counts; `None` for keys that take no number.
    pub fn unit(&self) -> Option<&'static str> {
        let of_type = match self.kind {
            Kind::Duration { .. } => "seconds",
            Kind::Size(_) => "bytes",
            _ => "",
        };
        Some(self.sample().map_or("", |(_, unit, _)| unit))
            .filter(|unit| !unit.is_empty())
            .or(Some(of_type).filter(|u| !u.is_empty()))
    }

    /// A value that somebody might give, in TOML syntax.
    pub fn example(&self) -> String {
        match self.sample() {
            Some((_, _, example)) if !example.is_empty() => (*example).to_owned(),
            _ => self.kind.example(self.default),
        }
    }

    /// The version that has it first; `None`: not this one.
    pub fn since(&self) -> Option<&'static str> {
        (self.when == When::Now).then_some("0.1")
    }

    /// The example as it stands in a file, below its table: the last part of the path, and the value.
    pub fn example_line(&self) -> String {
        let name = match self.path.rsplit('.').next().unwrap_or(self.path) {
            "*" if self.path.ends_with("listen.*") => "admin",
            "*" if self.path.ends_with("secrets.*") => "DB_PASSWORD",
            "*" => "APP_ENV",
            name => name,
        };
        format!("{name} = {}", self.example())
    }
}

impl Kind {
    /// Words of a choice, in quotes, that this version does not have yet.
    pub fn words_to_come(self) -> Vec<String> {
        match self {
            Kind::Choice(words) | Kind::Choices(words) => {
                words.iter().filter(|(_, when)| *when != When::Now).map(|(word, _)| format!("{word:?}")).collect()
            }
            _ => Vec::new(),
        }
    }

    /// An example of the type, if possible other than the default.
    fn example(self, default: &str) -> String {
        let text = match self {
            Kind::Bool if default == "true" => "false",
            Kind::Bool => "true",
            Kind::Int(..) | Kind::Workers | Kind::AtOnce => "4",
            Kind::Float(..) => "0.5",
            Kind::Text | Kind::Name => "\"web\"",
            Kind::Path => "\"/srv/shop\"",
            Kind::Duration { .. } if default == "\"30s\"" => "\"1m\"",
            Kind::Duration { .. } => "\"30s\"",
            Kind::Size(_) => "\"512M\"",
            Kind::Signal { .. } => "\"QUIT\"",
            Kind::RealTime => "\"RTMIN+1\"",
            // Another word than the default, which has to be in this version.
            Kind::Choice(choices) => {
                let other = choices.iter().find(|(word, when)| *when == When::Now && word != &default.trim_matches('"'));
                return other.map_or_else(|| default.to_owned(), |(word, _)| format!("{word:?}"));
            }
            Kind::Argv { .. } => "[\"./script\", \"--flag\"]",
            Kind::Strings => "[\"a\", \"b\"]",
            Kind::Ints(..) => "[1, 2]",
            Kind::Choices(_) => "[\"systemd\"]",
            Kind::Steps => "[\"QUIT\", \"10s\", \"TERM\", \"5s\"]",
            Kind::Ready => "\"notify\"",
            Kind::Share => "\"25%\"",
            Kind::Rate => "\"4/10s\"",
            Kind::Mode => "\"0660\"",
            Kind::Output(_) => "\"capture\"",
            Kind::Listen => "\"tcp://0.0.0.0:8000\"",
            Kind::Address => "\"tcp://0.0.0.0:8000\"",
            Kind::Env => "\"value\"",
            Kind::Secret => "\"file:/run/secrets/db\"",
            Kind::User => "\"www-data\"",
            Kind::Users => "[\"deploy\"]",
            Kind::Capabilities => "[\"net_bind_service\"]",
            Kind::Limit => "4096",
            Kind::Clock => "\"04:00\"",
            Kind::Schedule => "[{ from = \"08:00\", to = \"20:00\", days = \"mon-fri\", min = 6 }]",
        };
        text.to_owned()
    }
}

/// The keys that have an entry of their own.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    SAMPLES.iter().map(|(path, ..)| *path)
}
