//! What a right config means, value by value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use poolmaster::config::spec::{Account, Address, Bounds, EnvFile, Listener, Output, Resource, ScaleSignals, SocketOptions};
use poolmaster::config::{Facts, Sources, load};
use poolmaster::supervisor::{ExitWhen, KillMode, OnHup, PoolId, ReadyKind, Remove, RestartPolicy, Share, StopStep, TimeoutFrom};

use super::{explained, facts, good, sources};

const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn six_lines_are_a_config() {
    let config = good(
        r#"
        [pool.web]
        command = "uvicorn app:app --fd {fd}"
        workers = 4
        listen = "tcp://0.0.0.0:8000"
        graceful_timeout = "20s"
        scale = { min = 2, max = 16 }
        "#,
    );
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.not_yet, Vec::<String>::new());
    let pool = &config.pools[0];
    assert_eq!(pool.launch.argv, ["uvicorn", "app:app", "--fd", "{fd}"]);
    assert_eq!((pool.spec.workers, pool.spec.min, pool.spec.max), (4, 2, Some(16)));
    assert_eq!(pool.spec.stop, [StopStep { signal: 15, wait: S(20) }]);
    assert_eq!(
        pool.listeners,
        [Listener {
            name: "main".to_owned(),
            address: Address::Tcp { addr: SocketAddr::from(([0, 0, 0, 0], 8000)), dual: false },
            shared: None,
            backlog: 1024,
            reuseport: false,
            nonblocking: false,
            nodelay: true,
            mode: None,
            owner: None,
            group: None,
            options: SocketOptions::default(),
        }]
    );
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let config = good("[pool.a]\ncommand = 'x'\n[pool.b]\ncommand = 'x'\nlisten = ':0'\n");
    let master = &config.master;
    assert_eq!(master.name, "shop", "the folder's name");
    assert_eq!(master.runtime_dir, PathBuf::from("/run/user/1000/poolmaster"));
    assert_eq!(master.socket, PathBuf::from("/run/user/1000/poolmaster/shop.sock"));
    assert_eq!(master.pidfile, PathBuf::from("/run/user/1000/poolmaster/shop.pid"));
    assert_eq!((master.socket_mode, master.socket_users.len(), master.umask), (0o600, 0, None));
    assert_eq!((master.log.level.as_str(), master.log.json, master.log.file.clone()), ("info", false, None));
    assert!(master.stop_with_master && master.trace.is_none());
    let m = &master.spec;
    assert_eq!((m.default_pool, m.graceful_timeout, m.exit_when), (None, S(75), ExitWhen::AllDown));
    assert!(m.winch_parks && m.hup == OnHup::Restart);

    let (a, b) = (&config.pools[0].spec, &config.pools[1].spec);
    assert_eq!((a.id, b.id), (PoolId(0), PoolId(1)));
    assert_eq!((a.workers, a.min, a.max, a.remove, a.required, a.autostart), (1, 1, None, Remove::Oldest, false, true));
    assert_eq!((a.start_timeout, a.settle, a.spawn_interval), (S(60), S(1), S(0)));
    assert_eq!((a.timeout, a.timeout_from, a.abort_grace), (None, TimeoutFrom::FirstBeat, S(5)));
    assert_eq!(a.stop, [StopStep { signal: 15, wait: S(30) }]);
    assert_eq!(
        (a.quick_signal, a.quick_timeout, a.kill_mode, a.reopen_signal, a.min_ready),
        (15, S(5), KillMode::Mixed, None, 1)
    );
    assert_eq!(a.boot_error_codes, [3, 4]);
    assert_eq!((a.ready, a.max_starting), (ReadyKind::Exec, None));
    assert_eq!((b.ready, b.max_starting), (ReadyKind::NotifyOrAccepting, Some(8)), "twice the 4 CPUs");
    let r = &a.restart;
    assert_eq!((r.policy, r.success_codes.as_slice(), r.give_up_after), (RestartPolicy::Always, &[0][..], 0));
    assert_eq!((r.backoff.first, r.backoff.base, r.backoff.max), (S(0), Duration::from_millis(500), S(30)));
    assert_eq!((r.backoff.factor, r.backoff.jitter, r.backoff.reset_after), (2.0, 0.2, S(60)));
    assert_eq!((r.budget.failures, r.budget.within), (5, S(60)));
    assert_eq!((a.rollout.max_surge, a.rollout.max_unavailable, a.rollout.failures), (Share::Percent(25), Share::Count(0), 3));
    let launch = &config.pools[0].launch;
    assert_eq!(
        (&launch.stdout, &launch.stderr, launch.max_line, launch.protocols.systemd && launch.protocols.listen_pid),
        (&Output::Inherit, &Output::Capture, 16 << 10, true)
    );
    assert_eq!(config.pools[0].signals, ScaleSignals::default());
}

#[test]
fn every_key_of_a_pool_arrives() {
    let config = good(
        r#"
        [master]
        name = "x"
        runtime_dir = "run"
        socket_mode = "0660"
        socket_users = [33, "1001", "deploy"]
        default_pool = "web"
        umask = "0027"
        exit_when = "never"
        graceful_timeout = "2m"
        log = { level = "debug", format = "json", file = "/var/log/x.log" }
        trace = "t.jsonl"
        signals = { hup = "ignore", winch = "ignore" }

        [pool.cache]
        command = "cache"

        [pool.web]
        command = ["a", "b c", "{slot}"]
        workers = "auto*1.5"
        working_dir = "app"
        required = true
        boot = "retry"
        after = ["cache"]
        autostart = false
        protocols = []
        ready = "delay:1500ms"
        start_timeout = 90
        settle = "0s"
        boot_error_codes = [7]
        max_starting = 3
        spawn_interval = "100ms"
        abort_grace = "1s"
        stop_sequence = ["QUIT", "10s", "TERM"]
        graceful_timeout = "7s"
        quick_signal = "INT"
        quick_timeout = 2
        kill_mode = "process"
        reopen_signal = "USR1"
        min_ready = 2
        env = { A = "x{slot}", N = 5, GONE = false, EMPTY = "" }
        restart = { policy = "on-failure", success_codes = [0, 2], give_up_after = 9 }
        rollout = { max_surge = "25%", max_unavailable = 2, failures = 4, on_failure = "halt" }
        log = { stdout = "null", stderr = "file:err.log", max_line = "1K" }
        scale = { up_signal = "RTMIN+1", down_signal = "SIGRTMIN+2", restart_signal = 37, min = 2, max = 9, remove = "highest-slot" }
        listen.b = { address = "unix:b.sock", mode = "0660", owner = "www", group = 12, backlog = 7, nonblocking = true }
        listen.c = { address = ":9001", nodelay = false, v6only = true, freebind = true, defer_accept = "1500ms", fastopen = 8, keepalive = false, device = "eth0", mark = 4294967295 }
        listen.d = { address = "udp://[::1]:53", v6only = false }
        listen.e = { address = "unix:@shop" }
        listen.a = ":9000"
        listen_pid = "omit"
        user = "shop"
        group = 12
        supplementary_groups = ["adm", 7]
        umask = "0007"
        chroot = "jail"
        nice = -3
        oom_score_adj = 500
        cpu_affinity = [0, 2]
        no_new_privileges = true
        capabilities = ["CAP_NET_BIND_SERVICE", "chown"]
        argv0 = "web{slot}"
        env_clear = true
        env_pass = ["PATH", "LC_*"]
        env_files = ["a.env", "-/b.env"]
        secrets.KEY = "file:key"
        limits = { nofile = 65536, core = "unlimited", stack = "8M:1G", cpu = 0 }
        "#,
    );
    assert_eq!(config.not_yet, Vec::<String>::new());
    assert_eq!(config.warnings, Vec::<String>::new());
    let master = &config.master;
    assert_eq!(master.socket, PathBuf::from("/srv/shop/run/x.sock"));
    assert_eq!((master.socket_mode, master.umask), (0o660, Some(0o27)));
    assert_eq!(master.socket_users, [Account::Id(33), Account::Id(1001), Account::Name("deploy".to_owned())]);
    assert_eq!(
        (master.spec.default_pool, master.spec.exit_when, master.spec.graceful_timeout),
        (Some(PoolId(1)), ExitWhen::Never, S(120))
    );
    assert!(!master.spec.winch_parks && master.spec.hup == OnHup::Ignore && master.log.json);
    assert_eq!(master.trace, Some(PathBuf::from("/srv/shop/t.jsonl")));

    let pool = &config.pools[1];
    let spec = &pool.spec;
    assert_eq!((spec.workers, spec.min, spec.max, spec.remove), (6, 2, Some(9), Remove::HighestSlot));
    assert_eq!(spec.after, [PoolId(0)]);
    assert!(spec.required && !spec.autostart && spec.kill_mode == KillMode::Process && !pool.launch.protocols.systemd);
    assert_eq!((spec.ready, spec.max_starting), (ReadyKind::Delay(Duration::from_millis(1500)), Some(3)));
    assert_eq!((spec.start_timeout, spec.settle), (S(90), S(0)));
    assert_eq!(spec.stop, [StopStep { signal: 3, wait: S(10) }, StopStep { signal: 15, wait: S(7) }]);
    assert_eq!((spec.quick_signal, spec.quick_timeout, spec.reopen_signal), (2, S(2), Some(10)));
    assert_eq!((spec.rollout.max_surge, spec.rollout.max_unavailable), (Share::Percent(25), Share::Count(2)));
    assert_eq!(pool.signals, ScaleSignals { up: Some(35), down: Some(36), restart: Some(37) });
    let identity = &pool.identity;
    let name = |name: &str| Account::Name(name.to_owned());
    assert_eq!((&identity.user, &identity.group), (&Some(name("shop")), &Some(Account::Id(12))));
    assert_eq!(identity.groups, Some(vec![name("adm"), Account::Id(7)]));
    assert_eq!((identity.umask, identity.nice, identity.oom_score_adj), (Some(0o7), Some(-3), Some(500)));
    assert_eq!((identity.chroot.clone(), identity.cpus.as_slice()), (Some("/srv/shop/jail".into()), &[0, 2][..]));
    assert_eq!((identity.no_new_privileges, identity.capabilities.clone()), (true, Some(vec![10, 0])));
    let bounds = |soft, hard| Bounds { soft, hard };
    assert_eq!(
        identity.limits,
        [
            (Resource::OpenFiles, bounds(Some(65536), Some(65536))),
            (Resource::Core, bounds(None, None)),
            (Resource::Stack, bounds(Some(8 << 20), Some(1 << 30))),
            (Resource::Cpu, bounds(Some(0), Some(0))),
        ]
    );
    let launch = &pool.launch;
    assert_eq!(
        (launch.argv0.as_deref(), launch.env_pass.as_deref()),
        (Some("web{slot}"), Some(&["PATH".to_owned(), "LC_*".to_owned()][..]))
    );
    let file = |path: &str, optional| EnvFile { path: path.into(), optional };
    assert_eq!(launch.env_files, [file("/srv/shop/a.env", false), file("/b.env", true)]);
    assert_eq!(launch.secrets, [("KEY".to_owned(), PathBuf::from("/srv/shop/key"))]);
    assert_eq!(launch.argv, ["a", "b c", "{slot}"]);
    assert_eq!(launch.working_dir, Some(PathBuf::from("/srv/shop/app")));
    assert_eq!((&launch.stdout, &launch.stderr), (&Output::Null, &Output::File(PathBuf::from("/srv/shop/err.log"))));
    let env: Vec<(&str, Option<&str>)> = launch.env.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
    assert_eq!(env, [("A", Some("x{slot}")), ("EMPTY", Some("")), ("GONE", None), ("N", Some("5"))]);
    let names: Vec<&str> = pool.listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"], "a table is sorted by name");
    let b = &pool.listeners[1];
    assert_eq!((&b.address, b.mode, b.backlog), (&Address::Unix(PathBuf::from("/srv/shop/b.sock")), Some(0o660), 7));
    assert!(b.nonblocking);
    assert_eq!((&b.owner, &b.group), (&Some(Account::Name("www".to_owned())), &Some(Account::Id(12))));
    let c = &pool.listeners[2];
    let all = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 9001));
    assert_eq!((&c.address, c.nodelay), (&Address::Tcp { addr: all, dual: false }, false), "v6only = true");
    let want = SocketOptions {
        freebind: true,
        // Never less than was asked for.
        defer_accept: 2,
        fastopen: 8,
        keepalive: Some(false),
        device: "eth0".to_owned(),
        mark: u32::MAX,
    };
    assert_eq!(c.options, want);
    let local = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 53));
    assert_eq!((&pool.listeners[3].address, pool.listeners[3].backlog), (&Address::Udp { addr: local, dual: true }, 0));
    assert_eq!(pool.listeners[4].address, Address::Abstract("shop".to_owned()));
}

#[test]
fn a_list_of_listeners_keeps_its_order_and_pools_keep_the_files() {
    let config = good("[pool.z]\ncommand='x'\nlisten=[':3', ':1', ':2']\n[pool.a]\ncommand='x'\n[pool.m]\ncommand='x'\n");
    let names: Vec<&str> = config.pools[0].listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["main", "main-2", "main-3"]);
    let order: Vec<&str> = config.pools.iter().map(|p| p.spec.name.as_str()).collect();
    assert_eq!(order, ["z", "a", "m"]);
}

#[test]
fn suspicious_configs_are_warned_about() {
    let warned = |text: &str, part: &str| {
        let config = good(text);
        assert!(config.warnings.iter().any(|w| w.contains(part)), "{part}: {:?}", config.warnings);
    };
    warned("[pool.a]\ncommand='sh -c \"prep; server\"'\nlisten=':80'\n", "shell stays between");
    warned("[pool.a]\ncommand='a | b'\n", "| is passed to the program");
    warned("[pool.a]\ncommand='a'\ngraceful_timeout='2m'\n", "turns quick after 1m 15s");
    warned("[pool.a]\ncommand='a'\nscale.min=0\nworkers=0\n", "on demand is not in this version");
    warned("[pool.a]\ncommand='a'\nworkers='auto'\nscale.max=2\n", "auto means 4 here");
    warned("[pool.a]\ncommand='a'\nmin_ready=3\n", "degraded until");
    warned("[pool.a]\ncommand='a'\nenv={LISTEN_FDS='3'}\n", "poolmaster sets this variable itself");
    let quiet = good("[pool.a]\ncommand='sh -c \"prep; exec server\"'\nlisten=':80'\n[pool.b]\ncommand='sh -c \"a | b\"'\n");
    assert_eq!(quiet.warnings, Vec::<String>::new());
}

#[test]
fn workers_follow_min_unless_they_are_set() {
    let config = good("[pool.a]\ncommand='a'\nscale.min=3\n");
    assert_eq!(config.pools[0].spec.workers, 3);
}

#[test]
fn a_pool_without_a_file() {
    let command = ["sh", "-c", "echo ${HOME} {slot} $$"].map(str::to_owned).to_vec();
    let adhoc = Sources::adhoc(&["[::]:8000".to_owned(), ":8001".to_owned()], Some("3".to_owned()), command);
    let config = load(&Sources { facts: facts(), ..adhoc }).unwrap_or_else(|diags| panic!("{diags}"));
    assert_eq!(config.path, None);
    let pool = &config.pools[0];
    assert_eq!((pool.spec.name.as_str(), pool.spec.workers, pool.listeners.len()), ("main", 3, 2));
    assert_eq!(pool.launch.argv, ["sh", "-c", "echo ${HOME} {slot} $$"], "${{HOME}} is left to the shell");

    let bad = Sources::adhoc(&["nowhere".to_owned()], Some("some".to_owned()), vec!["x".to_owned()]);
    let said = load(&Sources { facts: facts(), ..bad }).expect_err("two wrong flags").to_string();
    assert!(said.contains("flag --workers some") && said.contains("flag --listen nowhere"), "{said}");
}

#[test]
fn names_of_instances_come_from_odd_folders() {
    for (cwd, want) in
        [("/srv/My Shop_2", "my-shop-2"), ("/", "poolmaster"), ("/srv/2024", "poolmaster"), ("/srv/2024-app", "app")]
    {
        let mut s = sources("[pool.a]\ncommand='a'\n", &[], &[]);
        s.facts.cwd = PathBuf::from(cwd);
        assert_eq!(load(&s).expect("valid").master.name, want, "{cwd}");
    }
    let mut s = sources("[pool.a]\ncommand='a'\n", &[], &[]);
    (s.facts.uid, s.facts.xdg_runtime_dir) = (7, None);
    assert_eq!(load(&s).expect("valid").master.runtime_dir, PathBuf::from("/tmp/poolmaster-7"));
    s.facts.uid = 0;
    assert_eq!(load(&s).expect("valid").master.runtime_dir, PathBuf::from("/run/poolmaster"));
}

#[test]
fn json_means_the_same_as_toml() {
    let toml = explained("[pool.web]\ncommand = 'a b'\nworkers = 2\n[pool.web.env]\nA = 'x'\n", &[], &[]);
    let mut s = sources(r#"{"pool": {"web": {"command": "a b", "workers": 2, "env": {"A": "x"}}}}"#, &[], &[]);
    s.path = Some(PathBuf::from("pools.JSON"));
    let json = load(&s).expect("valid");
    assert_eq!(format!("{:?}", json.pools), format!("{:?}", toml.config.pools));
}

/// Below a linked folder, as the kernel walks.
#[test]
fn a_config_and_its_includes_are_found_through_links() {
    let dir = tempfile::tempdir().expect("a folder");
    let real = dir.path().join("real");
    std::fs::create_dir_all(real.join("deep")).expect("folders");
    std::os::unix::fs::symlink(real.join("deep"), dir.path().join("link")).expect("a link");
    std::fs::write(real.join("pools.toml"), "include = [\"deep/../more.toml\", \"more.toml\"]\n").expect("a file");
    std::fs::write(real.join("more.toml"), "[pool.web]\ncommand = \"x\"\n").expect("a file");
    let facts = Facts { cwd: dir.path().join("link"), ..facts() };
    let config =
        load(&Sources { path: Some("../pools.toml".into()), facts: facts.clone(), ..Sources::default() }).expect("it is there");
    assert_eq!((config.pools.len(), config.master.name.as_str()), (1, "real"));
    std::fs::write(dir.path().join("pools.toml"), "").expect("a file");
    std::fs::remove_file(real.join("pools.toml")).expect("removed");
    let wrong = load(&Sources { path: Some("../pools.toml".into()), facts, ..Sources::default() }).expect_err("another file");
    assert!(wrong.to_string().contains("there is no such file"), "{wrong}");
}
