//! The source as it should look: who may use whom, how a file begins, and who may name a provider.
//!
//! Reads `src/` as text. Comments, and modules that exist for tests only, are left out of what is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The longest file.
const MAX_LINES: usize = 600;

/// Each module of the crate and what it may use, from the bottom up: a module stands above everything it uses, so there is
/// no circle. `main.rs` and `cli/` use the library by its public name alone.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("seldom", &[]),
    ("money", &[]),
    ("usage", &["money"]),
    ("sse", &[]),
    ("ndjson", &["sse"]),
    ("eventstream", &["sse"]),
    ("frames", &["sse", "ndjson", "eventstream"]),
    ("http1", &[]),
    ("api", &["error", "usage", "sse"]),
    ("config", &["error", "api"]),
    ("provider", &["error", "money", "usage", "sse", "eventstream", "frames", "api", "config"]),
    ("catalog", &["error", "money", "usage", "api", "config", "provider"]),
    ("guard", &["error", "provider"]),
    ("vault", &["error", "config"]),
    ("quota", &["error", "money"]),
    ("shed", &["error", "quota"]),
    ("store", &["error", "money", "usage", "api"]),
    ("handover", &["error", "store"]),
    ("metrics", &["error", "money", "usage", "api", "config", "provider", "catalog", "store", "quota", "shed"]),
    ("directory", &["error", "api", "config", "provider", "guard", "vault", "quota", "store"]),
    ("balance", &["error", "money", "usage", "api", "provider", "catalog", "guard", "directory"]),
    ("live", &["api", "directory", "balance"]),
    ("meter", &["error", "seldom", "money", "usage", "catalog", "store", "metrics"]),
    ("telemetry", &["error", "seldom", "money", "usage", "api", "config", "store", "metrics"]),
    ("admin", &["error", "money", "usage", "api", "config", "provider", "store", "directory", "live", "meter"]),
    ("proxy", &["*"]),
    // Simulated providers know nothing of the gateway, or a test against them would prove little.
    ("simulator", &["error", "usage"]),
];

/// Every name that a provider has or will have.
const PROVIDER_NAMES: &[&str] = &[
    "openai",
    "anthropic",
    "groq",
    "gemini",
    "vertex",
    "bedrock",
    "azure",
    "cohere",
    "mistral",
    "ollama",
    "deepseek",
    "xai",
    "openrouter",
    "together",
    "fireworks",
    "perplexity",
    "cerebras",
    "moonshot",
    "alibaba",
    "zai",
    "huggingface",
    "nvidia",
    "sambanova",
    "vllm",
    "llamacpp",
    "lmstudio",
    "voyage",
    "custom",
];

/// Files outside `provider/` that may name one, and why.
const MAY_NAME_PROVIDERS: &[(&str, &str)] =
    &[("simulator/demo.rs", "the demo's cast: it must say which provider each simulator plays")];

/// Parts that do no input or output: they can be tested without a network or a clock.
const PURE: &[&str] = &[
    "provider/",
    "sse.rs",
    "eventstream.rs",
    "http1/",
    "balance/attempt.rs",
    "balance/breaker/",
    "balance/budget.rs",
    "balance/rank.rs",
    "balance/request.rs",
    "balance/stats/",
    "balance/strategy/",
    "api/",
    "usage.rs",
    "money.rs",
    "error.rs",
];

/// One file of `src/`.
struct SourceFile {
    /// Relative to `src/`.
    path: String,
    text: String,
}

impl SourceFile {
    /// The module of the crate that the file belongs to; none for the crate's root and the command line.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        (!matches!(first, "lib" | "main" | "cli")).then_some(first)
    }

    /// The code with its line numbers: no comments, and no inline test module, which by custom ends the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// What stands after each `crate::` of the code.
    fn uses(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().flat_map(|(at, line)| {
            let pieces = line.split("crate::").skip(1);
            pieces.map(move |rest| {
                (at, rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
            })
        })
    }
}

/// Every file of `src/` that is part of the program.
fn sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let files: Vec<SourceFile> = paths
        .iter()
        .map(|path| SourceFile {
            path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
            text: std::fs::read_to_string(path).unwrap(),
        })
        .collect();
    let tests = test_modules(&files);
    assert!(files.len() > 80 && tests.len() > 3, "{} files, {} of them tests", files.len(), tests.len());
    files.into_iter().filter(|file| !tests.iter().any(|test| file.path.starts_with(test.as_str()))).collect()
}

fn walk(directory: &Path, paths: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The files and directories behind `#[cfg(test)] mod name;`.
fn test_modules(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (_, rest) in file.text.match_indices("#[cfg(test)]\n").map(|(at, head)| (at, &file.text[at + head.len()..]))
        {
            let line = rest.lines().next().unwrap_or_default();
            let Some(name) = line.split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';')) else { continue };
            let folder = file.path.trim_end_matches(".rs").trim_end_matches("mod");
            let folder =
                if folder.is_empty() || folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/") };
            found.extend([format!("{folder}{name}.rs"), format!("{folder}{name}/")]);
        }
    }
    found
}

#[test]
fn every_file_says_first_what_it_is_and_none_is_too_long() {
    let mut wrong = Vec::new();
    for SourceFile { path, text } in sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("{path}: does not open with //!"));
        }
        let lines = text.lines().count();
        if lines >= MAX_LINES {
            wrong.push(format!("{path}: {lines} lines"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_table_of_dependencies_names_every_module_and_points_down() {
    let named: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let files = sources();
    let real: BTreeSet<&str> = files.iter().filter_map(SourceFile::module).collect();
    assert_eq!(named, real);
    for (place, (module, uses)) in MAY_USE.iter().enumerate() {
        let below: BTreeSet<&str> = MAY_USE[..place].iter().map(|(module, _)| *module).collect();
        for used in uses.iter().filter(|used| **used != "*") {
            assert!(below.contains(used), "{module} may use {used}, which does not stand below it");
        }
    }
}

#[test]
fn dependencies_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in sources() {
        for (line, used) in file.uses() {
            seen += 1;
            let fine = match file.module() {
                Some(module) => module == used || allowed[module].iter().any(|may| *may == used || *may == "*"),
                None => true,
            };
            if !fine {
                wrong.push(format!("{}:{line} uses {used}", file.path));
            }
        }
        // A `super` that climbs to the root would be a way around the table.
        let depth = file.path.trim_end_matches("mod.rs").trim_end_matches('/').split('/').count();
        let climb = "super::".repeat(depth);
        for (line, text) in file.code().filter(|(_, text)| file.module().is_some() && text.contains(&climb)) {
            wrong.push(format!("{}:{line} reaches the root by `{}`", file.path, text.trim()));
        }
    }
    assert!(seen > 150, "only {seen} uses were found");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn only_the_registry_and_the_catalogue_know_a_providers_name() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources().iter().filter(|file| !file.path.starts_with("provider/")) {
        let excepted = MAY_NAME_PROVIDERS.iter().find(|(path, _)| *path == file.path);
        for (line, text) in file.code() {
            let Some(name) = PROVIDER_NAMES.iter().find(|name| text.contains(&format!("\"{name}\""))) else { continue };
            match excepted {
                Some((path, _)) => drop(used.insert(*path)),
                None => wrong.push(format!("{}:{line} names {name}", file.path)),
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let stale: Vec<_> = MAY_NAME_PROVIDERS.iter().filter(|(path, _)| !used.contains(path)).collect();
    assert!(stale.is_empty(), "no longer needed: {stale:?}");
}

#[test]
fn every_registered_provider_has_a_name_of_the_design() {
    for provider in perpetuo::provider::PROVIDERS {
        assert!(PROVIDER_NAMES.contains(&provider.name), "{} is not in the list above", provider.name);
    }
}

#[test]
fn translation_and_ranking_do_no_input_or_output() {
    const WORLD: &[&str] =
        &["pingora", "tokio", "std::net::Tcp", "std::fs", "Instant::now", "Timestamp::now", "SystemTime::now"];
    let sources = sources();
    let is_named = |pure: &&&str| sources.iter().any(|file| file.path.starts_with(**pure));
    assert_eq!(PURE.iter().find(|pure| !is_named(pure)), None, "a part that is not there is not looked at");
    let mut wrong = Vec::new();
    for file in sources.iter().filter(|file| PURE.iter().any(|pure| file.path.starts_with(pure))) {
        for (line, text) in file.code() {
            if let Some(word) = WORLD.iter().find(|word| text.contains(**word)) {
                wrong.push(format!("{}:{line} uses {word}", file.path));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn only_the_command_line_prints_and_only_the_proxy_knows_pingoras_session() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (line, text) in file.code() {
            let prints = ["println!(", "print!(", "eprintln!("].iter().any(|word| text.contains(word));
            if prints && !file.path.starts_with("cli/") {
                wrong.push(format!("{}:{line} prints", file.path));
            }
            if text.contains("pingora::proxy") && file.module() != Some("proxy") {
                wrong.push(format!("{}:{line} knows Pingora's session", file.path));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
