//! The files of `conf/deploy` against the program: the commands they run exist, their ports are the defaults, what stops the program
//! waits longer than its drain, and what they configure is valid.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use perpetuo::config::Config;
use serde_yaml::Value;

use crate::process::{command, text};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn deploy(name: &str) -> PathBuf {
    root().join("conf/deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a file of `KEY=value` or `KEY value` lines says of a key.
fn said<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(['=', ' '])).map(str::trim).collect()
}

/// The program takes these arguments; what lies behind them is not tried.
fn assert_understood(arguments: &[&str]) {
    let asked = command(arguments).arg("--help").output().unwrap();
    assert!(asked.status.success(), "perpetuo {arguments:?}: {}", text(&asked.stderr));
    let help = text(&asked.stdout);
    for flag in arguments.iter().filter(|argument| argument.starts_with("--")) {
        assert!(help.contains(flag), "perpetuo {arguments:?} knows no {flag}:\n{help}");
    }
}

/// `check` finds nothing wrong with a file, or with the defaults, in this environment.
fn assert_valid(config: &str, env: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("perpetuo.toml");
    std::fs::write(&path, config).unwrap();
    let checked = command(&["check", "--config"]).arg(&path).envs(env.iter().copied()).output().unwrap();
    assert!(checked.status.success(), "{}\n{config}", text(&checked.stderr));
}

fn seconds(text: &str) -> Duration {
    let span: jiff::SignedDuration = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    Duration::try_from(span).unwrap()
}

/// How long a stop may take with the defaults, and a second for the last words.
fn stop() -> Duration {
    let server = Config::default().server;
    server.grace + server.drain + Duration::from_secs(1)
}

#[test]
fn the_systemd_unit_runs_what_exists_and_waits_for_the_drain() {
    let unit = read("perpetuo.service");
    for key in ["ExecStart", "ExecStartPre"] {
        let [line] = said(&unit, key)[..] else { panic!("one {key}") };
        let arguments: Vec<&str> = line.split(' ').skip(1).collect();
        assert_understood(&arguments);
    }
    assert!(seconds(said(&unit, "TimeoutStopSec")[0]) > stop());
    assert_eq!(said(&unit, "ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    // The hand-over to a new main process is told this way.
    assert_eq!(said(&unit, "Type"), ["notify"]);
    let env: Vec<_> = said(&unit, "Environment").into_iter().map(|line| line.split_once('=').unwrap()).collect();
    assert_valid(&std::fs::read_to_string(root().join("conf/perpetuo.toml")).unwrap(), &env);
    assert!(unit.contains("perpetuo upgrade --config"));
    assert_understood(&["upgrade", "--config", "perpetuo.toml"]);
}

#[test]
fn systemd_finds_no_mistake_in_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("perpetuo.service");
    std::fs::write(&path, read("perpetuo.service").replace("/usr/local/bin/perpetuo", env!("CARGO_BIN_EXE_perpetuo")))
        .unwrap();
    let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        println!("skipped: no systemd-analyze here");
        return;
    };
    let said = text(&verified.stderr);
    let own: Vec<&str> = said.lines().filter(|line| line.contains("perpetuo.service")).collect();
    assert!(own.is_empty(), "{own:?}");
}

#[test]
fn the_image_runs_what_exists_at_the_default_ports() {
    let file = read("Dockerfile");
    let config = Config::default();
    let ports = [config.server.listen, config.metrics.listen].map(|address| address.port().to_string());
    assert_eq!(said(&file, "EXPOSE")[0].split(' ').collect::<Vec<_>>(), ports);
    let list = |text: &str| serde_json::from_str::<Vec<String>>(&text[text.find('[').unwrap()..]).unwrap();
    let [entry, serve] = [said(&file, "ENTRYPOINT")[0], said(&file, "CMD")[0]].map(list);
    assert_eq!((entry.len(), &serve[..]), (1, &["serve".to_owned()][..]));
    let health = list(said(&file, "HEALTHCHECK")[0]);
    assert_eq!(health[0], entry[0]);
    assert_understood(&[&health[1]]);
    assert_valid("", &image_environment(&file));
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let version = |text: &str| text.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
    let image = said(&file, "FROM")[0].strip_prefix("rust:").unwrap().split('-').next().unwrap();
    assert!(version(image) >= version(wanted), "{image} builds what wants {wanted}");
    for line in said(&file, "COPY").into_iter().filter(|line| !line.starts_with("--from")) {
        let mut paths: Vec<&str> = line.split(' ').collect();
        paths.pop();
        assert!(paths.iter().all(|path| root().join(path).exists()), "{line}");
    }
}

fn image_environment(file: &str) -> Vec<(&str, &str)> {
    let pairs = file.lines().filter_map(|line| line.trim_start_matches("ENV ").trim().split_once('='));
    pairs
        .filter(|(key, _)| key.starts_with("PERPETUO__"))
        .map(|(key, value)| (key, value.trim_end_matches(" \\")))
        .collect()
}

#[test]
fn compose_mounts_what_is_there_and_scrapes_where_figures_are() {
    let compose = yaml("compose.yml");
    let gateway = &compose["services"]["gateway"];
    assert!(seconds(gateway["stop_grace_period"].as_str().unwrap()) > stop());
    let dockerfile = root().join("conf/deploy").join(gateway["build"]["context"].as_str().unwrap());
    assert!(dockerfile.join(gateway["build"]["dockerfile"].as_str().unwrap()).is_file());
    let file = read("Dockerfile");
    let mut env = image_environment(&file);
    for (key, value) in gateway["environment"].as_mapping().unwrap() {
        env.push((key.as_str().unwrap(), value.as_str().unwrap()));
    }
    assert_valid("", &env);
    for (name, service) in compose["services"].as_mapping().unwrap() {
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            let named = compose["volumes"].as_mapping().unwrap().contains_key(from);
            let path = root().join("conf/deploy").join(from);
            // Without dashboards in the source there is nothing to mount yet.
            let there = named || path.exists() || (from.contains("/grafana/") && !root().join("grafana").exists());
            assert!(there, "{name:?} mounts {from}, which is not there");
        }
    }
    let scraped = yaml("prometheus.yml");
    let target = scraped["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str().unwrap();
    assert_eq!(target, format!("gateway:{}", Config::default().metrics.listen.port()));
    assert_eq!(yaml("grafana-datasource.yml")["datasources"][0]["url"], "http://prometheus:9090");
}

const CHART: &str = "helm/perpetuo";

/// The chart's templates, by name.
fn templates() -> Vec<(String, String)> {
    let dir = deploy(CHART).join("templates");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// A value of the chart by its path.
fn value<'v>(values: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(values, |value, key| value.as_mapping()?.get(key))
}

#[test]
fn the_chart_asks_only_for_values_that_it_has() {
    let values = yaml(&format!("{CHART}/values.yaml"));
    let mut asked = 0;
    for (name, template) in templates() {
        assert_eq!(template.matches("{{").count(), template.matches("}}").count(), "{name}");
        let begun =
            ["if ", "with ", "range ", "define "].map(|word| template.matches(&format!("{{{{- {word}")).count());
        let inline = template.matches("{{ if ").count();
        let ends = template.matches("end }}").count() + template.matches("end -}}").count();
        assert_eq!(begun.iter().sum::<usize>() + inline, ends, "{name}: blocks and their ends");
        for piece in template.split(".Values.").skip(1) {
            let path: String = piece.chars().take_while(|c| c.is_alphanumeric() || *c == '.').collect();
            assert!(value(&values, path.trim_end_matches('.')).is_some(), "{name} asks for {path}");
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn the_chart_configures_what_the_program_knows_and_gives_it_time_to_drain() {
    let values = yaml(&format!("{CHART}/values.yaml"));
    let chart = yaml(&format!("{CHART}/Chart.yaml"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let config = Config::default();
    assert_eq!(values["service"]["port"], config.server.listen.port());
    assert_eq!(values["metrics"]["port"], config.metrics.listen.port());

    let template = |name: &str| templates().into_iter().find(|(path, _)| path.ends_with(name)).unwrap().1;
    let set = template("statefulset.yaml");
    assert!(set.contains("terminationGracePeriodSeconds: {{ add .Values.graceSeconds .Values.drainSeconds 15 }}"));
    let [line] = said(set.trim(), "          args:")[..] else { panic!("one line of arguments") };
    let arguments: Vec<String> = serde_json::from_str(line).unwrap();
    assert_understood(&arguments.iter().map(String::as_str).collect::<Vec<_>>());

    let map = template("configmap.yaml");
    let (_, toml) = map.split_once("perpetuo.toml: |").unwrap();
    let toml = toml.replace("{{ if .Values.admin.enabled }}0.0.0.0{{ else }}127.0.0.1{{ end }}", "0.0.0.0");
    let mut rendered = String::new();
    for piece in toml.split("{{") {
        let Some((what, rest)) = piece.split_once("}}") else {
            rendered.push_str(piece);
            continue;
        };
        let path = what.trim_start_matches('-').trim().strip_prefix(".Values.").unwrap().split(' ').next().unwrap();
        match value(&values, path).unwrap() {
            Value::String(text) => rendered.extend(["\n", text]),
            number => rendered.push_str(serde_yaml::to_string(number).unwrap().trim()),
        }
        rendered.push_str(rest);
    }
    let rendered: Vec<&str> = rendered.lines().map(str::trim).collect();
    assert_valid(&rendered.join("\n"), &[]);
}
