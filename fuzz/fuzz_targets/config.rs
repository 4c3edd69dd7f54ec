//! The configuration, the catalogue of models, and the environment: a value or a list of mistakes, and nothing between.
//!
//! The input: a byte that says which, and the text. Lines of an environment are `NAME=value`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perpetuo::catalog::Catalog;
use perpetuo::config::Config;

fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let problems = match which % 3 {
        0 => Config::parse(text, "a.toml", std::iter::empty()).err(),
        1 => {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let env = pairs.map(|(name, value)| (format!("PERPETUO__{name}"), value.to_owned()));
            Config::parse("[server]\nlisten = \"127.0.0.1:1\"\n", "a.toml", env).err()
        }
        _ => Catalog::parse(text, "a.toml", &["openai", "anthropic"]).err(),
    };
    if let Some(problems) = problems {
        let said = problems.to_string();
        assert!(!said.is_empty());
        // A key that is quoted may hold line ends.
        assert!(which % 3 == 1 || said.starts_with("a.toml"), "a mistake without a place: {said}");
    }
});
