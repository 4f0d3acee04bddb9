#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use runpack_core::canon::Digest;
use runpack_core::model::{NamespaceId, TenantId};
use serde_json::{Value, json};

use super::*;

const TOKEN: &str = "dg-token-4711-do-not-write-down";

fn correlation(n: u64) -> Correlation {
    Correlation {
        request_id: Some(n.to_string()),
        server_correlation_id: Some(format!("dg-0-{n}")),
        unsafe_client_correlation_id: None,
    }
}

fn request(n: u64) -> Event {
    Event::McpRequest(McpRequest {
        correlation: correlation(n),
        transport: Transport::Http,
        peer_ip: Some([127, 0, 0, 1].into()),
        method: Method::ToolsCall,
        tool: Some("scenario_next".to_owned()),
        outcome: Outcome::Ok,
        error_code: None,
        error_kind: None,
        request_bytes: 10,
        response_bytes: 20,
        client_subject: Some("loopback".to_owned()),
        redaction: Redaction::Full,
    })
}

fn authz(n: u64) -> Event {
    Event::McpToolAuthz(McpToolAuthz {
        correlation: correlation(n),
        decision: AuthzDecision::Allow,
        action: "scenario_next".to_owned(),
        transport: Transport::Stdio,
        peer_ip: None,
        auth_method: AuthMethod::BearerToken,
        subject: None,
        token_fingerprint: Some(TokenFingerprint::of(TOKEN)),
        reason: None,
    })
}

fn precheck(request: Value, response: Value) -> Event {
    Event::PrecheckAudit(PrecheckAudit {
        correlation: correlation(1),
        tenant_id: TenantId::new(1),
        namespace_id: NamespaceId::new(2),
        scenario_id: Some("s".into()),
        stage_id: None,
        schema_id: Some("shape".into()),
        schema_version: Some("v1".to_owned()),
        request_hash: Digest::of(b"request"),
        response_hash: Digest::of(b"response"),
        request,
        response,
        redaction: PayloadRedaction::Payload,
    })
}

fn options(path: &Path) -> AuditOptions {
    AuditOptions { path: Some(path.to_owned()), ..AuditOptions::default() }
}

fn rotating(path: &Path, bytes: u64, keep: u32) -> AuditOptions {
    AuditOptions { rotation: Some(Rotation { bytes, keep: NonZeroU32::new(keep).unwrap() }), ..options(path) }
}

/// Writes these events, and closes the log.
fn write(options: &AuditOptions, numbers: std::ops::Range<u64>) {
    let log = AuditLog::open(options, 7).unwrap();
    numbers.for_each(|n| log.record(n, request(n)));
    log.flush().unwrap();
}

fn all(path: &Path) -> Result<Verified, Broken> {
    verify(&files(path).unwrap())
}

fn lines(path: &Path) -> Vec<Value> {
    let text: Vec<_> = files(path).unwrap().iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    text.concat().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The requests in a log, in order.
fn numbers(path: &Path) -> Vec<u64> {
    let requests = lines(path).into_iter().filter(|line| line["event"] == "mcp_request");
    requests.map(|line| line["timestamp_ms"].as_u64().unwrap()).collect()
}

#[test]
fn every_event_has_the_members_that_readers_know() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&options(&path), 7).unwrap();
    let tenant = TenantId::new(1);
    let namespace = NamespaceId::new(2);
    let events = [
        request(1),
        Event::TenantAuthz(TenantAuthz {
            correlation: correlation(1),
            tool: "precheck".to_owned(),
            allowed: true,
            reason: "noop_allow".to_owned(),
            principal_id: Some("loopback".to_owned()),
            tenant_id: tenant,
            namespace_id: None,
        }),
        Event::UsageAudit(UsageAudit {
            correlation: correlation(1),
            tool: "precheck".to_owned(),
            tenant_id: tenant,
            namespace_id: namespace,
            principal_id: None,
            metric: Metric::ToolCalls,
            units: 1,
            allowed: true,
            reason: "noop_allow".to_owned(),
        }),
        Event::RegistryAudit(RegistryAudit {
            correlation: correlation(1),
            tenant_id: tenant,
            namespace_id: namespace,
            action: RegistryAction::Register,
            allowed: false,
            reason: "builtin_deny_write".to_owned(),
            principal_id: Some("token:0".to_owned()),
            roles: vec!["NamespaceReader".to_owned()],
            policy_class: Some("prod".to_owned()),
            schema_id: Some("shape".into()),
            schema_version: Some("v1".to_owned()),
        }),
        precheck(json!({ "a": 1 }), json!([])),
        Event::SecurityAudit(SecurityAudit {
            kind: SecurityKind::DevPermissiveEnabled,
            message: "dev-permissive mode enabled".to_owned(),
            dev_permissive: true,
            namespace_authority: "none".to_owned(),
        }),
        authz(1),
    ];
    events.into_iter().for_each(|event| log.record(5, event));
    drop(log);
    let correlated = "request_id unsafe_client_correlation_id server_correlation_id";
    let expected = [
        (
            "mcp_request",
            "timestamp_ms transport peer_ip method tool outcome error_code error_kind request_bytes response_bytes client_subject redaction",
            true,
        ),
        ("tenant_authz", "timestamp_ms tool allowed reason principal_id tenant_id namespace_id", true),
        ("usage_audit", "timestamp_ms tool tenant_id namespace_id principal_id metric units allowed reason", true),
        (
            "registry_audit",
            "timestamp_ms tenant_id namespace_id action allowed reason principal_id roles policy_class schema_id schema_version",
            true,
        ),
        (
            "precheck_audit",
            "timestamp_ms tenant_id namespace_id scenario_id stage_id schema_id schema_version request_hash response_hash request response redaction",
            true,
        ),
        ("security_audit", "timestamp_ms kind message dev_permissive namespace_authority", false),
        ("mcp_tool_authz", "decision action transport peer_ip auth_method subject token_fingerprint reason", true),
    ];
    let lines = lines(&path);
    for (line, (event, members, has_ids)) in lines.iter().zip(expected) {
        let ids = if has_ids { correlated } else { "" };
        let own = members.split(' ').chain(ids.split_whitespace()).chain(["event", "seq", "previous"]);
        let found: BTreeSet<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, own.collect(), "{event}");
        assert_eq!(line["event"], event);
    }
    assert_eq!(lines.len(), expected.len());
    assert_eq!(
        (&lines[0]["method"], &lines[0]["outcome"], &lines[0]["transport"], &lines[0]["redaction"]),
        (&json!("ToolsCall"), &json!("Ok"), &json!("http"), &json!("full"))
    );
    assert_eq!((&lines[1]["tenant_id"], &lines[1]["namespace_id"]), (&json!("1"), &Value::Null));
    assert_eq!((&lines[2]["metric"], &lines[3]["action"]), (&json!("tool_calls"), &json!("register")));
    assert_eq!((&lines[4]["redaction"], &lines[4]["request"]), (&json!("payload"), &json!({ "a": 1 })));
    assert_eq!(lines[5]["kind"], "dev_permissive_enabled");
    assert_eq!((&lines[6]["decision"], &lines[6]["auth_method"]), (&json!("allow"), &json!("bearer_token")));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(r#"{"client_subject":"loopback","error_code":null,"#), "members are sorted: {text}");
    assert!(!text.contains(TOKEN) && text.contains(&Digest::of(TOKEN.as_bytes()).to_string()));
    assert_eq!(all(&path).unwrap().lines, 7);
}

#[test]
fn what_a_caller_makes_too_long_is_cut_and_a_payload_too_large_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&options(&path), 7).unwrap();
    let Event::McpRequest(mut long) = request(1) else { return };
    long.tool = Some("ä".repeat(100_000));
    log.record(1, Event::McpRequest(long));
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    for payload in [json!("much ".repeat(1 << 20)), deep, json!({ "n": 9_007_199_254_740_993_i64 })] {
        log.record(1, precheck(json!({}), payload));
    }
    log.record(1, precheck(json!({ "small": 1.5 }), json!("fits")));
    drop(log);
    let found = lines(&path);
    assert_eq!(found[0]["tool"], format!("{}…", "ä".repeat(512)));
    for line in &found[1..4] {
        assert_eq!((&line["request"], &line["response"]), (&Value::Null, &Value::Null));
        assert_eq!(line["redaction"], "hash_only");
    }
    assert_eq!((&found[4]["response"], &found[4]["redaction"]), (&json!("fits"), &json!("payload")));
    assert_eq!(all(&path).unwrap().lines, 5);
}

#[test]
fn a_chain_goes_on_after_a_restart_and_from_file_to_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs/audit.jsonl");
    let options = rotating(&path, 2_000, 100);
    for restart in 0..5 {
        write(&options, restart * 7..(restart + 1) * 7);
        assert_eq!(all(&path).unwrap().last, (restart + 1) * 7);
    }
    assert_eq!(numbers(&path), (0..35).collect::<Vec<_>>());
    let first = &lines(&path)[0];
    assert_eq!((&first["seq"], &first["previous"]), (&json!(1), &json!("0".repeat(64))));
    let found = files(&path).unwrap();
    assert!(found.len() > 5, "{found:?}");
    for file in &found {
        assert!(fs::metadata(file).unwrap().len() <= 2_000);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
    let verified = all(&path).unwrap();
    assert_eq!((verified.lines, verified.first, verified.last), (35, 1, 35));
    let text = fs::read(&path).unwrap();
    let last = text.trim_ascii_end().rsplit(|&byte| byte == b'\n').next().unwrap();
    assert_eq!(verified.head, Digest::of(last));
}

#[test]
fn no_more_files_are_kept_than_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    fs::write(dir.path().join("audit.jsonl.bak"), "not one of them").unwrap();
    write(&rotating(&path, 1_000, 6), 0..40);
    assert_eq!(files(&path).unwrap().len(), 7);
    let verified = all(&path).unwrap();
    assert_eq!((verified.last, verified.lines), (40, 41 - verified.first));
    assert!(verified.first > 1, "what was left out at the front can be seen");
    // Fewer from now on.
    write(&rotating(&path, 1_000, 2), 40..50);
    assert_eq!(files(&path).unwrap().len(), 3);
    assert_eq!(all(&path).unwrap().last, 50);
    assert!(dir.path().join("audit.jsonl.bak").exists());
    // The process ended just after the file was put aside.
    fs::rename(&path, dir.path().join("audit.jsonl.0")).unwrap();
    for n in [2, 1, 0] {
        fs::rename(dir.path().join(format!("audit.jsonl.{n}")), dir.path().join(format!("audit.jsonl.{}", n + 1)))
            .unwrap();
    }
    write(&rotating(&path, 1_000, 5), 50..51);
    assert_eq!(all(&path).unwrap().last, 51);
}

/// An attempt that failed halfway left no `.1`. Trying again, however often,
/// pushes nothing out.
#[test]
fn a_gap_in_the_numbers_is_filled_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let numbered = |n: u32| dir.path().join(format!("audit.jsonl.{n}"));
    let keep = |n| rotating(&path, 1_000, n);
    write(&keep(3), 0..6);
    assert_eq!(files(&path).unwrap(), [numbered(2), numbered(1), path.clone()]);
    fs::rename(numbered(2), numbered(3)).unwrap();
    fs::rename(numbered(1), numbered(2)).unwrap();
    write(&keep(3), 6..7);
    assert_eq!(files(&path).unwrap(), [numbered(3), numbered(2), numbered(1), path.clone()]);
    assert_eq!((all(&path).unwrap().first, all(&path).unwrap().last), (1, 7));
}

#[test]
fn a_line_that_was_torn_is_put_aside_and_the_chain_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    write(&options(&path), 0..3);
    let whole = fs::read(&path).unwrap();
    let start = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    let kept = dir.path().join("audit.jsonl.torn-3");
    for cut in start + 1..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(all(&path).unwrap_err().to_string().contains("line 3: it has no end\nhint: if runpackd was killed"));
        write(&options(&path), 9..10);
        let after = fs::read(&path).unwrap();
        assert_eq!(after[..start], whole[..start], "what was whole stays");
        assert_eq!(fs::read(&kept).unwrap(), whole[start..cut]);
        let found = lines(&path);
        let expected = json!({
            "event": "audit_recovered", "seq": 3, "previous": found[2]["previous"], "timestamp_ms": 7,
            "bytes": cut - start, "kept": "audit.jsonl.torn-3",
            "sha256": Digest::of(&whole[start..cut]).to_string(),
        });
        assert_eq!(found[2], expected);
        assert_eq!((all(&path).unwrap().lines, numbers(&path)), (4, vec![0, 1, 9]));
        fs::remove_file(&kept).unwrap();
    }
}

#[test]
fn what_a_loss_of_power_left_at_the_end_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    write(&options(&path), 0..3);
    let whole = fs::read(&path).unwrap();
    let zeros = [0; 5_000];
    let tails: [&[u8]; 4] = [&zeros, b"\0\0\0{\"event\"\n\0\n", b"half a line\n{\"event\":\"mcp_re", b"\n\n\n"];
    for tail in tails {
        fs::write(&path, [&whole, tail].concat()).unwrap();
        write(&options(&path), 3..4);
        assert_eq!(fs::read(dir.path().join("audit.jsonl.torn-4")).unwrap(), tail);
        assert_eq!((all(&path).unwrap().lines, numbers(&path)), (5, vec![0, 1, 2, 3]));
        fs::remove_file(dir.path().join("audit.jsonl.torn-4")).unwrap();
    }
    // Torn again before the line that says so was whole, and killed before it
    // was written at all.
    fs::write(&path, [&whole, b"{\"one".as_slice()].concat()).unwrap();
    write(&options(&path), 3..3);
    fs::write(&path, [&whole, b"{\"two".as_slice()].concat()).unwrap();
    write(&options(&path), 3..3);
    fs::write(&path, &whole).unwrap();
    write(&options(&path), 3..4);
    assert_eq!(fs::read(dir.path().join("audit.jsonl.torn-4")).unwrap(), b"{\"one{\"two");
    assert_eq!(lines(&path)[3]["bytes"], 10);
    assert_eq!(all(&path).unwrap().lines, 5);
    // Nothing but half of the first line.
    fs::remove_file(dir.path().join("audit.jsonl.torn-4")).unwrap();
    fs::write(&path, &whole[..10]).unwrap();
    write(&options(&path), 0..1);
    assert_eq!(fs::read(dir.path().join("audit.jsonl.torn-1")).unwrap(), whole[..10]);
    assert_eq!(lines(&path)[0]["event"], "audit_recovered");
}

#[test]
fn a_file_of_something_else_is_refused_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    for text in ["[server]\nport = 1\n", "a word", "{\"event\":\"mcp_request\"}\n"] {
        fs::write(&path, text).unwrap();
        let refused = AuditLog::open(&options(&path), 7).unwrap_err();
        assert!(matches!(refused, OpenError::Foreign(_)), "{refused}");
        assert!(refused.to_string().contains("\nhint: move it away"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(!dir.path().join("audit.jsonl.torn-1").exists());
    }
    let refused = AuditLog::open(&options(dir.path()), 7).unwrap_err();
    assert!(matches!(refused, OpenError::NoFile(_)), "{refused}");
    let refused = AuditLog::open(&options(&path.join("below")), 7).unwrap_err();
    assert!(matches!(refused, OpenError::Unusable { .. }), "{refused}");
}

#[test]
fn of_two_processes_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&options(&path), 7).unwrap();
    assert!(matches!(AuditLog::open(&options(&path), 7), Err(OpenError::Held(_))));
    drop(log);
    write(&options(&path), 0..1);
}

/// Every change but at the very end, in one file and over several.
#[test]
fn a_line_that_is_changed_taken_out_put_in_or_moved_shows() {
    let dir = tempfile::tempdir().unwrap();
    for bytes in [1_000_000, 1_500] {
        let path = dir.path().join(format!("audit-{bytes}.jsonl"));
        write(&rotating(&path, bytes, 100), 0..7);
        let found = files(&path).unwrap();
        let honest: Vec<_> = found.iter().map(|file| fs::read(file).unwrap()).collect();
        let head = verify(&found).unwrap();
        let lie = |changed: Vec<u8>, file: usize, what: &str| {
            fs::write(&found[file], changed).unwrap();
            let looked = verify(&found);
            fs::write(&found[file], &honest[file]).unwrap();
            match looked {
                Err(Broken::Line { .. }) => {}
                other => panic!("{what}: {other:?}"),
            }
        };
        for (file, text) in honest.iter().enumerate() {
            let newest = file + 1 == honest.len();
            let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
            let last = text.len() - lines.last().unwrap().len();
            // What follows the newest line is nothing, so a change in it that
            // leaves a line of that number and place cannot show.
            for at in (0..if newest { last } else { text.len() }).step_by(if found.len() == 1 { 1 } else { 7 }) {
                let mut changed = text.clone();
                changed[at] ^= 1;
                lie(changed, file, &format!("byte {at} of file {file}"));
            }
            for n in 0..lines.len() {
                let (first, end) = (file == 0 && n == 0, newest && n + 1 == lines.len());
                let mut less = lines.clone();
                less.remove(n);
                if !first && !end {
                    lie(less.concat(), file, &format!("without line {n} of file {file}"));
                }
                let mut more = lines.clone();
                more.insert(n, lines[n]);
                lie(more.concat(), file, &format!("line {n} of file {file} twice"));
                if n > 0 {
                    let mut moved = lines.clone();
                    moved.swap(n - 1, n);
                    lie(moved.concat(), file, &format!("lines {n} of file {file} swapped"));
                }
            }
        }
        if found.len() > 1 {
            let mut swapped = found.clone();
            swapped.swap(0, 1);
            assert!(matches!(verify(&swapped), Err(Broken::Line { .. })), "files in another order");
            let without: Vec<_> = [&found[..1], &found[2..]].concat();
            assert!(matches!(verify(&without), Err(Broken::Line { .. })), "without a file");
            assert_eq!(verify(&found[1..]).unwrap().first, head.last - verify(&found[1..]).unwrap().lines + 1);
        }
        // The one thing a chain alone cannot show.
        let newest = honest.last().unwrap();
        let cut = newest[..newest.len() - 1].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        fs::write(found.last().unwrap(), &newest[..cut]).unwrap();
        let short = verify(&found).unwrap();
        assert!(short.last == head.last - 1 && short.head != head.head, "only a note of the head does");
    }
    let missing = dir.path().join("missing");
    assert!(matches!(verify(&[missing]), Err(Broken::Unreadable { .. })));
    assert_eq!(verify(&[] as &[&Path]).unwrap().lines, 0);
    let first = dir.path().join("first");
    fs::write(&first, format!("{{\"event\":\"e\",\"previous\":\"{}\",\"seq\":1}}\n", "1".repeat(64))).unwrap();
    assert!(verify(&[&first]).is_err(), "the first follows nothing");
    fs::write(&first, "[\"e\",\"0\",1]\n").unwrap();
    assert!(verify(&[&first]).unwrap_err().to_string().contains("no line of an audit log"));
    fs::write(&first, "x".repeat(chain::LINE_BYTES_MAX + 10)).unwrap();
    assert!(verify(&[&first]).unwrap_err().to_string().contains("more than"));
}

#[test]
fn eight_threads_write_one_chain() {
    const EACH: u64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&AuditOptions { fsync: Fsync::Each, ..rotating(&path, 50_000, 1_000) }, 7).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || (0..EACH).for_each(|n| log.record(thread * EACH + n, request(n))));
        }
    });
    log.flush().unwrap();
    let status = log.status();
    assert_eq!((status.lines, status.lost, status.fault), (8 * EACH, 0, None));
    assert!(status.syncs > 0 && status.rotations > 10, "{} {}", status.syncs, status.rotations);
    assert_eq!(all(&path).unwrap().lines, 8 * EACH);
    let mut found = numbers(&path);
    for thread in 0..8 {
        let own: Vec<_> = found.iter().copied().filter(|n| n / EACH == thread).collect();
        assert!(own.is_sorted(), "each thread's events are in order");
    }
    found.sort_unstable();
    assert_eq!(found, (0..8 * EACH).collect::<Vec<_>>(), "each event is there, once");
}

#[test]
fn lines_are_synced_as_often_as_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let open =
        |fsync, fsync_interval| AuditLog::open(&AuditOptions { fsync, fsync_interval, ..options(&path) }, 7).unwrap();
    let hour = Duration::from_secs(3_600);
    for (fsync, expected) in [(Fsync::None, 0), (Fsync::Each, 3), (Fsync::Interval, 0)] {
        let log = open(fsync, hour);
        for n in 0..3 {
            log.record(n, request(n));
            log.flush().unwrap();
        }
        assert_eq!(log.status().syncs, expected, "{fsync:?}");
    }
    let log = open(Fsync::Interval, Duration::from_millis(5));
    log.record(1, request(1));
    log.flush().unwrap();
    let begun = Instant::now();
    while log.status().syncs == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is synced without another line");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The directory is gone when the file should be put aside: lines go on where
/// they can, and the log says that it is not as it should be until it is.
#[test]
fn a_file_that_cannot_be_put_aside_goes_on() {
    for on_error in [OnError::Warn, OnError::Refuse] {
        let dir = tempfile::tempdir().unwrap();
        let (here, away) = (dir.path().join("here"), dir.path().join("away"));
        let path = here.join("audit.jsonl");
        let log = AuditLog::open(&AuditOptions { on_error, ..rotating(&path, 1_000, 50) }, 7).unwrap();
        log.record(0, request(0));
        log.flush().unwrap();
        fs::rename(&here, &away).unwrap();
        (1..10).for_each(|n| log.record(n, request(n)));
        let fault = log.flush().unwrap_err();
        assert!(fault.to_string().starts_with("the audit log cannot be written: "), "{fault}");
        assert_eq!(log.ready().is_err(), on_error == OnError::Refuse);
        fs::rename(&away, &here).unwrap();
        let begun = Instant::now();
        while log.status().fault.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is tried again");
            std::thread::sleep(Duration::from_millis(5));
        }
        log.ready().unwrap();
        (10..20).for_each(|n| log.record(n, request(n)));
        log.flush().unwrap();
        drop(log);
        assert_eq!(numbers(&path), (0..20).collect::<Vec<_>>());
        assert_eq!(all(&path).unwrap().lines, 20);
    }
}

/// This test in another process, as the part of that name.
#[cfg(unix)]
fn child(before: &str, part: &str, path: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before} exec \"$@\""), "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "audit::tests::does_its_part", "--ignored", "--nocapture"]);
    command.env("RUNPACK_AUDIT_PART", part).env("RUNPACK_AUDIT_PATH", path).stdout(Stdio::null());
    command
}

#[test]
#[ignore = "the child of the others"]
fn does_its_part() {
    let Ok(part) = std::env::var("RUNPACK_AUDIT_PART") else { return };
    let path = PathBuf::from(std::env::var_os("RUNPACK_AUDIT_PATH").unwrap());
    match part.as_str() {
        "writes on and on" => {
            let log = AuditLog::open(&rotating(&path, 100_000, 100_000), 7).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| (0..u64::MAX).for_each(|n| log.record(n, request(n))));
                }
            });
        }
        "to stderr" => {
            let log = AuditLog::open(&AuditOptions::default(), 7).unwrap();
            (0..20).for_each(|n| log.record(n, request(n)));
        }
        "has no room" => {
            crate::talk::begin(crate::talk::LogArgs::default(), tracing_subscriber::filter::LevelFilter::ERROR);
            has_no_room(&path);
        }
        other => panic!("there is no part `{other}`"),
    }
}

#[cfg(unix)]
#[test]
fn a_process_that_is_killed_leaves_a_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let mut last = 0;
    for round in 0..6 {
        let mut killed = child("", "writes on and on", &path).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let size = || files(&path).map_or(0, |files| files.iter().filter_map(|file| fs::metadata(file).ok()).count());
        let before = size();
        while size() < before + 2 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it writes");
            std::thread::sleep(Duration::from_millis(3 + round));
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        let log = AuditLog::open(&rotating(&path, 100_000, 100_000), 7).unwrap();
        log.record(round, authz(round));
        drop(log);
        let verified = all(&path).unwrap();
        assert!(verified.first == 1 && verified.last > last + 100, "{verified:?}");
        last = verified.last;
    }
}

#[cfg(unix)]
#[test]
fn without_a_file_lines_go_to_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let output = child("", "to stderr", dir.path()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let path = dir.path().join("stderr");
    fs::write(&path, text.split_inclusive('\n').filter(|line| line.starts_with('{')).collect::<String>()).unwrap();
    assert_eq!(verify(&[&path]).unwrap().lines, 20, "{text}");
}

/// The file may not grow beyond the limit that `ulimit` set, until the process
/// itself raises it.
fn has_no_room(path: &Path) {
    let log = AuditLog::open(&AuditOptions { on_error: OnError::Refuse, ..options(path) }, 7).unwrap();
    let mut n = 0;
    while log.ready().is_ok() {
        log.record(n, request(n));
        let _ = log.flush();
        n += 1;
    }
    assert!(log.flush().is_err());
    // What fits into the queue waits, and nobody waits with it.
    for more in n..n + 2 * QUEUE_MAX as u64 {
        log.record(more, request(more));
    }
    let (lost, kept) = (log.status().lost, n + 2 * QUEUE_MAX as u64);
    assert!(lost > 0 && lost <= QUEUE_MAX as u64 + 1, "{lost}");
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    let begun = Instant::now();
    while log.ready().is_err() || log.status().lines < kept - lost + 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on: {:?}", log.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    log.record(kept, request(kept));
    drop(log);
    assert_eq!(all(path).unwrap().lines, kept - lost + 2);
    let found = lines(path);
    let said: Vec<_> = found.iter().filter(|line| line["event"] == "audit_lost").collect();
    assert_eq!((said.len(), &said[0]["lines"]), (1, &json!(lost)));
    let expected: Vec<_> = (0..kept - lost).chain([kept]).collect();
    assert_eq!(numbers(path), expected, "what was acknowledged as taken is there, in order");
}

#[cfg(unix)]
#[test]
fn without_room_calls_are_refused_until_there_is_some_and_nothing_is_dropped_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let before = "trap '' XFSZ; ulimit -S -f 16;";
    let output = child(before, "has no room", &path).stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(told.matches("warning: the audit log cannot be written: ").count(), 1, "said once: {told}");
    assert!(told.contains("the audit log is written again"), "{told}");
}
