//! The schema of the control protocol: made from the source of its types, checked in as it is made, and held against real messages.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use poolmaster::protocol::{
    Call, ErrorName, Failure, HealthReply, InfoReply, ListenerStatus, ListenersReply, METHODS, OutcomeReply, PsReply,
    SignalsReply, SlotSocket, encode_failure, encode_reply,
};
use serde_json::{Map, Value, json};

use super::drift;
use super::validator::{errors, valid};

const FILE: &str = "schemas/control.schema.json";

fn source(path: &str) -> String {
    std::fs::read_to_string(drift::root().join(path)).unwrap()
}

/// A field of a struct or a variant of an enum, as it stands in the source.
#[derive(Debug, Default)]
struct Member {
    about: String,
    attributes: String,
    name: String,
    /// `String`, `Option<u32>`; of a variant, what is in its brackets.
    kind: String,
}

/// A struct or an enum.
#[derive(Debug, Default)]
struct Type {
    about: String,
    attributes: String,
    members: Vec<Member>,
}

/// The public structs and enums of a file, read line by line: rustfmt has put each member on a line of its own.
fn types(text: &str) -> BTreeMap<String, Type> {
    let mut found = BTreeMap::new();
    let (mut about, mut attributes) = (String::new(), String::new());
    let mut open: Option<(String, Type)> = None;
    for line in text.lines() {
        let bare = line.trim();
        if let Some(words) = bare.strip_prefix("/// ") {
            about.push_str(if about.is_empty() { "" } else { " " });
            about.push_str(words);
        } else if bare.starts_with("#[") {
            attributes.push_str(bare);
        } else if line == "}" {
            found.extend(open.take());
            (about, attributes) = (String::new(), String::new());
        } else if let Some((_, of)) = &mut open {
            let bare = bare.trim_end_matches(',').trim_start_matches("pub ");
            let (name, kind) = match (bare.split_once(": "), bare.split_once('(')) {
                (Some((name, kind)), _) => (name, kind),
                (None, Some((name, kind))) => (name, kind.trim_end_matches(')')),
                (None, None) => (bare, ""),
            };
            let [about, attributes] = [&mut about, &mut attributes].map(std::mem::take);
            of.members.push(Member { about, attributes, name: name.to_owned(), kind: kind.to_owned() });
        } else {
            let head = bare.strip_prefix("pub struct ").or_else(|| bare.strip_prefix("pub enum "));
            let [about, attributes] = [&mut about, &mut attributes].map(std::mem::take);
            if let Some(name) = head.and_then(|head| head.strip_suffix(" {")) {
                open = Some((name.to_owned(), Type { about, attributes, members: Vec::new() }));
            }
        }
    }
    found
}

/// `RolledBack`: `rolled-back`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Without the brackets of a link in documentation.
fn plain(about: &str) -> String {
    about.replace("[`", "`").replace("`]", "`").replace("`super::", "`")
}

struct Made {
    types: BTreeMap<String, Type>,
    definitions: Map<String, Value>,
}

impl Made {
    /// The schema of a type by its name in Rust.
    fn of(&mut self, kind: &str) -> Value {
        if let Some(inner) = kind.strip_prefix("Vec<").and_then(|kind| kind.strip_suffix('>')) {
            return json!({ "type": "array", "items": self.of(inner) });
        }
        match kind {
            "String" => json!({ "type": "string" }),
            "bool" => json!({ "type": "boolean" }),
            "u8" => json!({ "type": "integer", "minimum": 0, "maximum": 255 }),
            "u32" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            "i32" => json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX }),
            "u64" => json!({ "type": "integer", "minimum": 0 }),
            "Selector" => json!({ "type": "string", "pattern": "^(all|[a-z][a-z0-9-]*(:[0-9]+)?)$" }),
            "Pools" => json!({ "type": "array", "minItems": 1, "items": { "type": "string", "pattern": "^[a-z][a-z0-9-]*$" } }),
            "ScaleChange" => json!({ "type": "string", "pattern": "^([+-]?[0-9]+|[0-9]+%|config)$" }),
            "Condition" => json!({ "type": "string", "pattern": "^(ready|settled|stopped|count=[0-9]+)$" }),
            other => {
                self.define(other);
                json!({ "$ref": format!("#/definitions/{other}") })
            }
        }
    }

    fn define(&mut self, name: &str) {
        if self.definitions.contains_key(name) {
            return;
        }
        let Type { about, attributes, members } = self.types.remove(name).unwrap_or_else(|| panic!("no type {name}"));
        let about = plain(&about);
        if attributes.contains("rename_all = \"kebab-case\"") {
            let words: Vec<Value> =
                members.iter().map(|m| json!({ "const": kebab(&m.name), "description": plain(&m.about) })).collect();
            self.definitions.insert(name.to_owned(), json!({ "description": about, "oneOf": words }));
            return;
        }
        // Held before its members: they may lead back to it.
        self.definitions.insert(name.to_owned(), Value::Null);
        let (mut properties, mut required) = (Map::new(), Vec::new());
        let all_default = attributes.contains("#[serde(default");
        for member in &members {
            let kind = member.kind.as_str();
            if member.attributes.contains("flatten") {
                self.define(kind);
                let inner = self.definitions[kind].clone();
                properties.extend(inner["properties"].as_object().unwrap().clone());
                required.extend(inner["required"].as_array().unwrap().clone());
                continue;
            }
            let renamed = member.attributes.split("rename = \"").nth(1).and_then(|rest| rest.split('"').next());
            let name = renamed.unwrap_or(&member.name);
            let optional = kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>'));
            let signal = member.attributes.contains("text::signal");
            let mut schema = match optional {
                _ if signal => json!({ "type": "string", "pattern": "^[A-Z0-9+-]+$" }),
                Some(inner) => json!({ "anyOf": [self.of(inner), { "type": "null" }] }),
                None => self.of(kind),
            };
            let about = match plain(&member.about) {
                see if see == "See `Patience`." && name == "wait" => "False: answer as soon as the order is taken.".to_owned(),
                see if see == "See `Patience`." => "Answer TimedOut after this long, while the work goes on.".to_owned(),
                about => about,
            };
            let milliseconds = if name.ends_with("_ms") { " Unit: ms." } else { "" };
            let about = format!("{about}{milliseconds}");
            // Draft 7 ignores what stands beside a $ref.
            if schema.get("$ref").is_some() {
                schema = json!({ "allOf": [schema] });
            }
            schema["description"] = json!(about);
            if !all_default && !member.attributes.contains("default") {
                required.push(json!(name));
            }
            properties.insert(name.to_owned(), schema);
        }
        let mut schema = json!({ "description": about, "type": "object", "properties": properties, "required": required });
        if attributes.contains("deny_unknown_fields") {
            schema["additionalProperties"] = json!(false);
        }
        self.definitions.insert(name.to_owned(), schema);
    }
}

fn document() -> Value {
    let files = [
        "src/protocol/parameters.rs",
        "src/protocol/insight.rs",
        "src/protocol/status.rs",
        "src/protocol/reply.rs",
        "src/protocol/plan.rs",
        "src/protocol/progress.rs",
        "src/protocol/history.rs",
    ];
    let mut all: BTreeMap<String, Type> = files.iter().flat_map(|file| types(&source(file))).collect();
    let core = ["src/supervisor/view.rs", "src/supervisor/history.rs"].iter().flat_map(|file| types(&source(file)));
    all.extend(core.filter(|(name, _)| ["Phase", "WorkerState", "ReloadStage", "Ended"].contains(&name.as_str())));
    let request = types(&source("src/protocol/request.rs")).remove("Request").unwrap();
    let failures = types(&source("src/protocol/failure.rs")).remove("ErrorName").unwrap();
    let mut made = Made { types: all, definitions: Map::new() };
    let mut calls = Vec::new();
    let mut reply = "OutcomeReply".to_owned();
    let mut replies: Vec<String> = vec![reply.clone()];
    made.define(&reply);
    // Before the last reply of an order, to who asks for more.
    made.define("ProgressReply");
    replies.push("ProgressReply".to_owned());
    for method in &request.members {
        if let Some(named) = method.about.split("[`super::").nth(1).and_then(|rest| rest.split('`').next()) {
            reply = named.to_owned();
            if !replies.contains(&reply) {
                made.define(named);
                replies.push(reply.clone());
            }
        }
        let about = method.about.split(" Reply").next().unwrap();
        let mut call = json!({
            "description": format!("{about} Reply: {reply}."),
            "type": "object",
            "required": ["method"],
            "additionalProperties": false,
            "properties": {
                "method": { "const": kebab(&method.name) },
                "more": { "type": "boolean", "description": "The client takes several replies: of an order that replaces workers, one for each step (ProgressReply) before the last." },
            }
        });
        if method.kind.is_empty() {
            call["properties"]["parameters"] = json!({ "type": "object", "additionalProperties": false });
        } else {
            call["properties"]["parameters"] = made.of(&method.kind);
            let required = made.definitions[&method.kind]["required"].as_array().is_some_and(|names| !names.is_empty());
            if required {
                call["required"] = json!(["method", "parameters"]);
            }
        }
        calls.push(call);
    }
    let names: Vec<Value> = failures
        .members
        .iter()
        .map(|m| json!({ "const": format!("org.poolmaster.{}", m.name), "description": plain(&m.about) }))
        .collect();
    let parameters: Vec<Value> = replies.iter().map(|name| json!({ "$ref": format!("#/definitions/{name}") })).collect();
    let mut definitions = made.definitions;
    definitions.insert("Request".to_owned(), json!({ "description": "A line from a client.", "oneOf": calls }));
    definitions.insert(
        "Reply".to_owned(),
        json!({
            "description": "A line from the master: what was asked for.",
            "type": "object",
            "required": ["parameters"],
            "additionalProperties": false,
            "properties": {
                "parameters": { "anyOf": parameters },
                "continues": { "type": "boolean", "description": "More replies follow." },
            }
        }),
    );
    definitions.insert(
        "Error".to_owned(),
        json!({
            "description": "A line from the master: why not.",
            "type": "object",
            "required": ["error", "parameters"],
            "additionalProperties": false,
            "properties": {
                "error": { "oneOf": names },
                "parameters": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {
                        "code": { "type": "integer", "minimum": 1, "maximum": 255, "description": "The exit code of the verb." },
                        "message": { "type": "string", "description": "What was tried, why it failed, what to do." },
                    }
                },
            }
        }),
    );
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://poolmaster.org/control.schema.json",
        "title": "Control protocol of poolmaster",
        "description": "Each message is one JSON object on a line of its own, on the master's control socket (a Unix stream socket).",
        "oneOf": [{ "$ref": "#/definitions/Request" }, { "$ref": "#/definitions/Reply" }, { "$ref": "#/definitions/Error" }],
        "definitions": definitions,
    })
}

#[test]
fn the_checked_in_schema_is_the_made_one() {
    drift::same(FILE, &format!("{:#}\n", document()));
}

/// The schema, and one of its definitions.
fn part(name: &str) -> Value {
    let mut schema = document();
    schema.as_object_mut().unwrap().remove("oneOf");
    schema["allOf"] = json!([{ "$ref": format!("#/definitions/{name}") }]);
    schema
}

fn read(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap()
}

#[test]
fn requests_are_as_the_program_reads_them() {
    let schema = part("Request");
    let good = [
        r#"{"method":"info"}"#,
        r#"{"method":"status","parameters":{"pool":"web","workers":true}}"#,
        r#"{"method":"status","parameters":{}}"#,
        r#"{"method":"ps","parameters":{"pool":"web"}}"#,
        r#"{"method":"health","parameters":{}}"#,
        r#"{"method":"listeners","parameters":{"pool":"web"},"more":true}"#,
        r#"{"method":"signals"}"#,
        r#"{"method":"scale","parameters":{"pool":"web","change":"+1","wait":false,"timeout_ms":500}}"#,
        r#"{"method":"scale","parameters":{"pool":"web","change":"50%"}}"#,
        r#"{"method":"stop","parameters":{"pools":["web","all-mail"]}}"#,
        r#"{"method":"start","parameters":{"pools":["all"],"wait":true}}"#,
        r#"{"method":"restart","parameters":{"targets":["web:3","mail"]}}"#,
        r#"{"method":"kill","parameters":{"target":"all","signal":"TERM"}}"#,
        r#"{"method":"kill","parameters":{"target":"web:0","signal":"RTMIN+3"}}"#,
        r#"{"method":"wait","parameters":{"pool":"web","for":"count=3","timeout_ms":1}}"#,
        r#"{"method":"retry","parameters":{"pool":"web"}}"#,
        r#"{"method":"plan","parameters":{"config":"/srv/next.toml","restart":true,"pools":["web"]}}"#,
        r#"{"method":"reload","parameters":{}}"#,
        r#"{"method":"reload","parameters":{"restart":true,"pools":["web","new"]},"more":true}"#,
        r#"{"method":"abort","parameters":{"timeout_ms":10}}"#,
        r#"{"method":"rollback","parameters":{"timeout_ms":10}}"#,
        r#"{"method":"history"}"#,
        r#"{"method":"upgrade","parameters":{"binary":"/opt/2/poolmaster","wait_for_rest":true,"timeout_ms":500}}"#,
        r#"{"method":"reopen"}"#,
        r#"{"method":"shutdown","parameters":{"now":true,"wait":false}}"#,
    ];
    let mut seen = std::collections::BTreeSet::new();
    for line in good {
        let call = Call::parse(line.as_bytes()).unwrap_or_else(|e| panic!("{line}: {}", e.message));
        assert_eq!(errors(&schema, &read(line.as_bytes())), Vec::<String>::new(), "{line}");
        // As the program writes it.
        let written = Call::new(call.request).encode().unwrap();
        assert_eq!(errors(&schema, &read(&written)), Vec::<String>::new(), "{line}");
        seen.insert(read(line.as_bytes())["method"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, METHODS.iter().map(|method| (*method).to_owned()).collect(), "each method is tried");
    for bad in [
        r#"{"method":"explode"}"#,
        r#"{"methods":"info"}"#,
        r#"{"method":"info","parameters":{"x":1}}"#,
        r#"{"method":"info","extra":1}"#,
        r#"{"method":"status","parameters":{"worker":true}}"#,
        r#"{"method":"status","parameters":{"pool":1}}"#,
        r#"{"method":"scale","parameters":{"pool":"web"}}"#,
        r#"{"method":"scale","parameters":{"pool":"web","change":1}}"#,
        r#"{"method":"scale","parameters":{"pool":"web","change":"many"}}"#,
        r#"{"method":"scale","parameters":{"pool":"web","change":"+1","timeout_ms":-1}}"#,
        r#"{"method":"stop","parameters":{"pools":[]}}"#,
        r#"{"method":"stop"}"#,
        r#"{"method":"restart","parameters":{"targets":["web:x"]}}"#,
        r#"{"method":"wait","parameters":{"pool":"web","for":"ever"}}"#,
        r#"{"method":"shutdown","parameters":{"now":"yes"}}"#,
    ] {
        assert!(Call::parse(bad.as_bytes()).is_err(), "{bad}");
        assert!(!valid(&schema, &read(bad.as_bytes())), "{bad}");
    }
}

#[test]
fn every_error_is_in_the_schema() {
    let schema = part("Error");
    for name in [
        ErrorName::Failed,
        ErrorName::BadMessage,
        ErrorName::UnknownMethod,
        ErrorName::InvalidParameter,
        ErrorName::NotFound,
        ErrorName::BadConfig,
        ErrorName::RolledBack,
        ErrorName::TimedOut,
        ErrorName::NotPermitted,
        ErrorName::Refused,
        ErrorName::Busy,
        ErrorName::Internal,
    ] {
        let line = encode_failure(&Failure::new(name, "why"));
        assert_eq!(errors(&schema, &read(&line)), Vec::<String>::new());
    }
    assert!(!valid(&schema, &json!({ "error": "org.poolmaster.Other", "parameters": { "code": 1, "message": "" } })));
}

/// The schema of one reply, which allows nothing that it does not name.
fn strict(name: &str) -> Value {
    let mut schema = part(name);
    for definition in schema["definitions"].as_object_mut().unwrap().values_mut() {
        if definition.get("properties").is_some() {
            definition["additionalProperties"] = json!(false);
        }
    }
    schema
}

#[test]
fn replies_of_a_master_are_as_the_schema_says() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pools.toml");
    let text = format!(
        "[master]\nname = \"t\"\nruntime_dir = \"{dir}/run\"\n[pool.web]\ncommand = \"{} worker\"\nworkers = 2\nready = \"notify\"\n\
         timeout = \"30s\"\nscale = {{ max = 9, up_signal = \"RTMIN+1\" }}\n[pool.web.listen]\nown = {{ address = \"127.0.0.1:0\", reuseport = true }}\nfile = \"unix:{dir}/a.sock\"\n",
        env!("CARGO_BIN_EXE_poolmaster"),
        dir = dir.path().display()
    );
    std::fs::write(&config, text).unwrap();
    /// Ended whatever becomes of the test.
    struct Running(std::process::Child);
    impl Drop for Running {
        fn drop(&mut self) {
            if let Ok(None) = self.0.try_wait() {
                // Not waited for, so the number is still its own.
                let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
                let _ = self.0.wait();
            }
        }
    }
    let mut master =
        Running(Command::new(env!("CARGO_BIN_EXE_poolmaster")).arg("run").arg(&config).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(master.0.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains("ready: 1 pool")) {
        said.push(log.next().unwrap_or_else(|| panic!("it ended: {said:#?}")).unwrap());
    }
    let log = std::thread::spawn(move || log.for_each(drop));
    let mut socket = UnixStream::connect(dir.path().join("run/t.sock")).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let mut ask = |line: &str| -> Value {
        socket.write_all(format!("{line}\n").as_bytes()).unwrap();
        read(lines.next().unwrap().unwrap().as_bytes())
    };
    let mut check = |line: &str, name: &str| {
        let reply = ask(line);
        let part = if reply.get("error").is_some() { "Error" } else { "Reply" };
        assert_eq!(errors(&self::part(part), &reply), Vec::<String>::new(), "{line}");
        if part == "Reply" {
            assert_eq!(errors(&strict(name), &reply["parameters"]), Vec::<String>::new(), "{line}: {reply}");
        }
        assert_eq!(part == "Error", name == "Error", "{line}: {reply}");
        reply
    };
    check(r#"{"method":"info"}"#, "InfoReply");
    let status = check(r#"{"method":"status","parameters":{"workers":true}}"#, "StatusReply");
    assert_eq!(status["parameters"]["pools"][0]["workers"].as_array().unwrap().len(), 2);
    check(r#"{"method":"ps"}"#, "PsReply");
    check(r#"{"method":"health"}"#, "HealthReply");
    let listeners = check(r#"{"method":"listeners"}"#, "ListenersReply");
    assert_eq!(listeners["parameters"]["listeners"][1]["slots"].as_array().unwrap().len(), 2, "{listeners}");
    check(r#"{"method":"signals"}"#, "SignalsReply");
    check(r#"{"method":"scale","parameters":{"pool":"web","change":"3"}}"#, "OutcomeReply");
    check(r#"{"method":"plan","parameters":{"restart":true}}"#, "PlanReply");
    check(r#"{"method":"reload"}"#, "OutcomeReply");
    check(r#"{"method":"rollback","parameters":{"wait":false}}"#, "OutcomeReply");
    check(r#"{"method":"abort"}"#, "Error");
    check(r#"{"method":"history"}"#, "HistoryReply");
    check(r#"{"method":"upgrade"}"#, "OutcomeReply");
    check(r#"{"method":"scale","parameters":{"pool":"web","change":"99"}}"#, "Error");
    check(r#"{"method":"stop","parameters":{"pools":["nobody"]}}"#, "Error");
    check(r#"{"method":"nonsense"}"#, "Error");
    check("nonsense", "Error");
    check(r#"{"method":"shutdown","parameters":{"wait":false}}"#, "OutcomeReply");
    assert_eq!(master.0.wait().unwrap().code(), Some(0));
    log.join().unwrap();
}

#[test]
fn what_may_be_missing_is_not_required() {
    // The least that an older master may send.
    let least = |name: &str| -> Value {
        match name {
            "InfoReply" => serde_json::to_value(InfoReply {
                instance: "t".into(),
                version: "0".into(),
                pid: 1,
                config: None,
                methods: Vec::new(),
            }),
            "ListenersReply" => serde_json::to_value(ListenersReply {
                listeners: vec![ListenerStatus {
                    pool: "a".into(),
                    name: "main".into(),
                    address: "tcp://127.0.0.1:1".into(),
                    fd: 3,
                    inode: 9,
                    backlog: 1,
                    queue: None,
                    queue_limit: None,
                    holders: 0,
                    sharing: "reuseport".into(),
                    inherited: None,
                    slots: vec![SlotSocket { slot: 0, fd: 3, inode: 9, queue: None, takes: true }],
                    why: Some("x".into()),
                }],
            }),
            "HealthReply" => serde_json::to_value(HealthReply { ok: true, pools: Vec::new() }),
            "SignalsReply" => serde_json::to_value(SignalsReply { pid: 1, signals: Vec::new() }),
            "OutcomeReply" => serde_json::to_value(OutcomeReply { code: 0, message: String::new() }),
            "PsReply" => {
                serde_json::to_value(PsReply { instance: "t".into(), pid: 1, uptime_ms: 0, rss_bytes: None, workers: Vec::new() })
            }
            other => panic!("{other}"),
        }
        .unwrap()
    };
    for name in ["InfoReply", "ListenersReply", "HealthReply", "SignalsReply", "OutcomeReply", "PsReply"] {
        let whole = least(name);
        assert_eq!(errors(&strict(name), &whole), Vec::<String>::new(), "{name}");
        for key in whole.as_object().unwrap().keys() {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(key);
            let line = encode_reply(&without, false).unwrap();
            let reply = poolmaster::protocol::Reply::parse(line.trim_ascii_end()).unwrap().unwrap();
            let read = match name {
                "InfoReply" => reply.parameters::<InfoReply>().is_ok(),
                "ListenersReply" => reply.parameters::<ListenersReply>().is_ok(),
                "HealthReply" => reply.parameters::<HealthReply>().is_ok(),
                "SignalsReply" => reply.parameters::<SignalsReply>().is_ok(),
                "OutcomeReply" => reply.parameters::<OutcomeReply>().is_ok(),
                _ => reply.parameters::<PsReply>().is_ok(),
            };
            assert_eq!(valid(&part(name), &without), read, "{name} without {key}");
        }
    }
}
