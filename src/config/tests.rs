//! What an operator meets: mistakes with their lines, overrides, secrets that stay hidden, and the shipped file.

use super::*;
use std::time::Duration;

const SHIPPED: &str = include_str!("../../conf/perpetuo.toml");

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, Problems> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, "p.toml", env)
}

/// The messages, one a line.
fn mistakes(text: &str, env: &[(&str, &str)]) -> String {
    parse(text, env).expect_err("the text has mistakes").to_string()
}

/// The shipped file with its commented keys switched on.
fn shipped_with_every_key() -> String {
    let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let switch = |line: &'static str| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line);
    SHIPPED.lines().map(switch).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = parse("", &[]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(config.data_dir, PathBuf::from("data"));
    assert_eq!(config.limits.max_body_bytes, 33_554_432);
    assert_eq!(config.timeouts.total, Duration::from_secs(600));
    assert_eq!(config.retry.max_attempts, 3);
    assert!(config.admin.listen.is_none() && config.security.master_key.is_none() && config.jwt.hs256_secret.is_none());
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_shipped_file_shows_exactly_the_defaults() {
    let shipped = parse(SHIPPED, &[]).unwrap();
    assert_eq!(format!("{shipped:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_shipped_file_documents_every_key_with_a_valid_example() {
    let every = shipped_with_every_key();
    let mut reader = Reader::document(Source { file: "p.toml", text: &every });
    let long = "0123456789abcdef0123456789abcdef".to_owned();
    let names = ["PERPETUO_MASTER_KEY", "PERPETUO_OLD_MASTER_KEY", "PERPETUO_JWT_SECRET"]
        .map(|name| (name.to_owned(), long.clone()));
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS".to_owned(), format!("authorization={long}"));
    Config::read(&mut reader, &names.into_iter().chain([headers]).collect());
    let declared = reader.declared.clone();
    assert!(declared.len() >= 33, "only {} keys were read", declared.len());
    for key in declared {
        assert!(reader.written(key), "conf/perpetuo.toml does not document {key}");
    }
    assert_eq!(reader.finish(), [], "an example in the file is wrong");
}

#[test]
fn every_mistake_is_reported_at_once_with_its_line() {
    let text = r#"dta_dir = "x"
data_dir = 7
[server]
listen = "localhost"
treads = 4
drain = "soon"
[limits]
max_body_bytes = 0
[retry]
max_attempts = 11
[routing]
strategy = "quickest"
[sever]
listen = "127.0.0.1:1"
[meter]
when_full = true
max_event_bytes = 5
"#;
    let expected = [
        "p.toml:1: dta_dir: unknown key; did you mean data_dir?",
        "p.toml:2: data_dir: expected a path in quotes",
        "p.toml:4: server.listen: expected an address with a port such as \"127.0.0.1:3000\"",
        "p.toml:5: server.treads: unknown key; did you mean server.threads?",
        "p.toml:6: server.drain: expected a duration such as \"500ms\", \"2s\" or \"10m\"",
        "p.toml:8: limits.max_body_bytes: must be between 1 and 1073741824",
        "p.toml:10: retry.max_attempts: must be between 1 and 10",
        "p.toml:12: routing.strategy: expected one of \"fastest\", \"cheapest\", \"reliable\", \"default\"",
        "p.toml:14: sever.listen: unknown key; did you mean server.listen?",
        "p.toml:16: meter.when_full: expected one of \"continue\", \"refuse\"",
        "p.toml:17: meter.max_event_bytes: unknown key; did you mean limits.max_event_bytes?",
    ];
    assert_eq!(mistakes(text, &[]), expected.join("\n"));
}

#[test]
fn broken_toml_does_not_hide_the_other_mistakes() {
    let text = "[retry]\nmax_attempts = 99\n[server]\nlisten = \nthreads = 0\n[server]\nh2c = 1\n";
    let found = mistakes(text, &[]);
    assert!(found.contains("p.toml:2: retry.max_attempts: must be between 1 and 10"), "{found}");
    assert_eq!(found.lines().filter(|line| line.starts_with("p.toml:4: ")).count(), 1, "{found}");
    assert!(found.contains("p.toml:5: server.threads: must be between 1 and "), "{found}");
    assert!(found.contains("p.toml:6: duplicate key"), "{found}");
}

#[test]
fn a_section_in_the_wrong_form_is_a_mistake() {
    assert_eq!(mistakes("server = 3\n", &[]), "p.toml:1: server: expected a section: [server]");
    assert_eq!(mistakes("[data_dir]\n", &[]), "p.toml:1: data_dir: expected a value, not a section");
    assert_eq!(mistakes("[sever]\n", &[]), "p.toml:1: sever: unknown key; did you mean server?");
    assert_eq!(mistakes("[nonsense]\n", &[]), "p.toml:1: nonsense: unknown key");
    assert_eq!(mistakes("[server.listen]\nx = 1\n", &[]).lines().count(), 1);
    parse("[server]\n[admin]\n", &[]).unwrap();
}

#[test]
fn the_environment_wins_over_the_file() {
    let env = [
        ("PERPETUO__SERVER__LISTEN", "127.0.0.1:8080"),
        ("PERPETUO__DATA_DIR", "/var/lib/perpetuo"),
        ("PERPETUO__TIMEOUTS__FIRST_TOKEN", "1m 30s"),
        ("PERPETUO__SERVER__H2C", "false"),
        ("PERPETUO__RETRY__MAX_ATTEMPTS", "5"),
        ("PERPETUO__LOG__LEVEL", "debug"),
        ("PERPETUO__SECURITY__ALLOW_PRIVATE_UPSTREAMS", "LocalHost, 10.0.0.7,[::1]"),
        ("PERPETUO_JWT_SECRET", "one underscore is someone else's"),
        ("PATH", "/bin"),
    ];
    let config = parse("[server]\nlisten = \"127.0.0.1:1\"\ndrain = \"1s\"\n", &env).unwrap();
    assert_eq!(config.server.listen.port(), 8080);
    assert_eq!(config.server.drain, Duration::from_secs(1));
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/perpetuo"));
    assert_eq!(config.timeouts.first_token, Duration::from_secs(90));
    assert!(!config.server.h2c);
    assert_eq!(config.retry.max_attempts, 5);
    assert_eq!(config.log.level, tracing::Level::DEBUG);
    assert_eq!(config.security.allow_private_upstreams, ["localhost", "10.0.0.7", "::1"]);
    let bracketed = parse("", &[("PERPETUO__SECURITY__ALLOW_PRIVATE_UPSTREAMS", r#"["127.0.0.1", "gpu"]"#)]).unwrap();
    assert_eq!(bracketed.security.allow_private_upstreams, ["127.0.0.1", "gpu"]);
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let env = [("PERPETUO__RETRY__MAX_ATTEMPTS", "many"), ("PERPETUO__SERVER__LISTN", "127.0.0.1:1")];
    let expected = "p.toml:2: server.h2c: expected true or false\n\
        environment PERPETUO__RETRY__MAX_ATTEMPTS: expected a whole number\n\
        environment PERPETUO__SERVER__LISTN: unknown key; did you mean server.listen?";
    assert_eq!(mistakes("[server]\nh2c = \"yes\"\n", &env), expected);
}

#[test]
fn the_admin_plane_is_not_open_to_the_network_by_accident() {
    for open in ["0.0.0.0:3000", "[::]:3000", "192.168.1.5:3000"] {
        let text = format!("[server]\nlisten = \"{open}\"\n");
        let found = mistakes(&text, &[]);
        assert!(found.starts_with("p.toml:2: server.listen: ") && found.contains("[admin] listen"), "{found}");
        parse(&format!("{text}[admin]\nlisten = \"127.0.0.1:3001\"\n"), &[]).unwrap();
    }
    for closed in ["127.0.0.1:3000", "127.1.2.3:3000", "[::1]:3000"] {
        parse(&format!("[server]\nlisten = \"{closed}\"\n"), &[]).unwrap();
    }
}

#[test]
fn no_two_planes_want_the_same_port() {
    let found = mistakes("[server]\nlisten = \"127.0.0.1:9464\"\n[admin]\nlisten = \"0.0.0.0:9464\"\n", &[]);
    assert!(found.contains("p.toml:4: admin.listen: the same address as server.listen"), "{found}");
    assert!(found.contains("p.toml: metrics.listen: the same address as server.listen"), "{found}");
    parse("[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n", &[]).unwrap();
    parse("[server]\nlisten = \"127.0.0.1:9464\"\n[metrics]\nenabled = false\n", &[]).unwrap();
}

const SECRET: &str = "correct-horse-battery-staple-correct-horse";

#[test]
fn a_secret_comes_from_a_literal_a_variable_or_a_file() {
    let literal = parse(&format!("[jwt]\nhs256_secret = \"{SECRET}\"\n"), &[]).unwrap();
    assert_eq!(literal.jwt.hs256_secret.unwrap().expose(), SECRET);
    let named = parse("[security]\nmaster_key = \"env:MASTER\"\n", &[("MASTER", SECRET)]).unwrap();
    assert_eq!(named.security.master_key.unwrap().expose(), SECRET);
    let old = parse(
        "[security]\nold_master_keys = [\"env:OLDER\", \"env:OLDEST\"]\n",
        &[("OLDER", SECRET), ("OLDEST", SECRET)],
    );
    assert_eq!(old.unwrap().security.old_master_keys.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let path = format!("file:{}", file.display());
    let filed = parse("", &[("PERPETUO__SECURITY__MASTER_KEY", &path)]).unwrap();
    assert_eq!(filed.security.master_key.unwrap().expose(), SECRET);
}

#[test]
fn a_secret_that_is_not_there_or_weak_is_a_mistake() {
    let text = "[jwt]\nhs256_secret = \"env:NOWHERE\"\n[security]\nmaster_key = \"file:/does/not/exist\"\n";
    let expected = "p.toml:2: jwt.hs256_secret: the environment variable it names is not set\n\
        p.toml:4: security.master_key: the file it names cannot be read: entity not found";
    assert_eq!(mistakes(text, &[]), expected);
    let found = mistakes("[jwt]\nhs256_secret = \"hunter2\"\n", &[]);
    assert_eq!(found, "p.toml:2: jwt.hs256_secret: too short: a secret needs at least 16 bytes");
}

#[test]
fn no_message_and_no_debug_shows_a_secret() {
    let config = parse(&format!("[jwt]\nhs256_secret = \"{SECRET}\"\n"), &[]).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("horse") && shown.contains("hs256_secret: \"set\""), "{shown}");
    let wrong = [
        format!("[security]\nmaster_key = \"{SECRET}\"\n"),
        format!("[security]\nold_master_keys = [\"{SECRET}\"]\n"),
        format!("[jwt]\nhs256_secrt = \"{SECRET}\"\n"),
        format!("[jwt]\nhs256_secret = [\"{SECRET}\"]\n"),
        format!("[jwt]\nhs256_secret = {SECRET}\n"),
        format!("[jwt]\nhs256_secret: {SECRET}\n"),
        format!("[jwt]\n{SECRET}\n"),
        format!("[jwt]\nhs256_secret = \"\"\"{SECRET}\n"),
        format!("[jwt]\nhs256_secret = \"{SECRET}\n"),
        format!("[server]\nlisten = \"{SECRET}\"\n"),
        "[jwt]\nhs256_secret = \"env:horse\"\n".to_owned(),
    ];
    for text in wrong {
        let problems = parse(&text, &[]).unwrap_err();
        assert!(!format!("{problems} {problems:?}").contains("horse"), "{problems}");
    }
    let env = [("PERPETUO__JWT__HS256", SECRET), ("PERPETUO__SECURITY__MASTER_KEY", SECRET)];
    let problems = parse("", &env).unwrap_err();
    assert_eq!(problems.0.len(), 2);
    assert!(!format!("{problems} {problems:?}").contains("horse"), "{problems}");
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_environment() {
    let env = [("PERPETUO__LOG__FORMAT".to_owned(), "xml".to_owned())];
    let found = Config::load(Some(Path::new("/does/not/exist.toml")), env.into_iter()).unwrap_err().to_string();
    assert!(found.starts_with("/does/not/exist.toml: cannot be read: "), "{found}");
    assert!(found.contains("environment PERPETUO__LOG__FORMAT: expected one of"), "{found}");
}

#[test]
fn a_private_host_is_a_bare_name() {
    for bad in ["http://localhost", "localhost:8080", "a/b", ""] {
        let text = format!("[security]\nallow_private_upstreams = [\"{bad}\"]\n");
        assert!(mistakes(&text, &[]).contains("a host name or an address without scheme"), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_file_is_read_or_refused_but_never_panics(
        from in 0..SHIPPED.len(), length in 0..40_usize, with in ".{0,4}",
    ) {
        let every = shipped_with_every_key();
        let kept = |(index, letter)| (index < from || index >= from + length).then_some(letter);
        let mut damaged: String = every.chars().enumerate().filter_map(kept).collect();
        if let Some((at, _)) = damaged.char_indices().nth(from) {
            damaged.insert_str(at, &with);
        }
        if let Err(problems) = parse(&damaged, &[]) {
            assert!(!problems.0.is_empty());
        }
    }
}

#[test]
fn a_collector_is_a_bare_url_and_its_headers_are_a_secret() {
    let with = |endpoint: &str| format!("[tracing]\nendpoint = \"{endpoint}\"\n");
    for wrong in ["localhost:4318", "grpc://c:4317", "http://user:pw@c", "http://c?key=1", "http://c#x", "http://"] {
        assert!(mistakes(&with(wrong), &[]).contains("tracing.endpoint: expected a URL"), "{wrong}");
    }
    let headers = "[tracing]\nheaders = \"env:H\"\nsample = 0.25\n";
    let config = parse(headers, &[("H", "authorization=Bearer%20horse-battery, x-b=2")]).unwrap();
    let read: Vec<_> = super::headers(&config.tracing.headers.clone().unwrap()).unwrap();
    let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(read, [("authorization", "Bearer horse-battery"), ("x-b", "2")]);
    assert!(!format!("{config:?}").contains("horse") && config.tracing.sample == 0.25);
    let wrong = mistakes(headers, &[("H", "correct horse battery staple")]);
    assert!(wrong.contains("tracing.headers: expected name=value") && !wrong.contains("horse"), "{wrong}");
    let found = mistakes("[tracing]\nheaders = \"authorization=Bearer horse-battery\"\nsample = 1.5\n", &[]);
    assert!(
        found.contains("tracing.headers: ") && found.contains("tracing.sample: must be between 0 and 1"),
        "{found}"
    );
    assert!(!found.contains("horse"), "{found}");
}
