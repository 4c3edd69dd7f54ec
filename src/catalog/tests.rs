//! What the catalogue promises: the shipped file is valid, prices are found, aliases resolve, mistakes show their lines.

use super::*;

const PROVIDERS: [&str; 3] = ["openai", "anthropic", "groq"];

fn shipped() -> Catalog {
    let known: Vec<&'static str> = crate::provider::PROVIDERS.iter().map(|provider| provider.name).collect();
    Catalog::parse(BUILT_IN, "conf/models.toml", &known).unwrap_or_else(|problems| panic!("{problems}"))
}

fn mistakes(text: &str) -> String {
    Catalog::parse(text, "m.toml", &PROVIDERS).expect_err("the text has mistakes").to_string()
}

#[test]
fn the_shipped_catalogue_has_models_of_all_three_providers() {
    let catalog = shipped();
    for (provider, least) in [("openai", 50), ("anthropic", 15), ("groq", 10)] {
        let count = catalog.names().filter(|(_, owner)| *owner == provider).count();
        assert!(count >= least, "{count} models of {provider}");
    }
    let embeddings = catalog.entry("openai", "text-embedding-3-small").unwrap();
    assert_eq!((embeddings.kind, embeddings.prices.output), (Kind::Embeddings, Money::ZERO));
}

#[test]
fn a_model_is_read_as_it_was_written() {
    let catalog = shipped();
    let [model] = catalog.by_name("gpt-4o") else { panic!("one provider serves gpt-4o") };
    assert_eq!((model.provider, model.upstream.as_str(), model.kind), ("openai", "gpt-4o", Kind::Chat));
    assert_eq!(model.prices.input, Money(2_500_000));
    assert_eq!(model.prices.output, Money(10_000_000));
    assert_eq!(model.prices.cached_read, Some(Money(1_250_000)));
    assert_eq!((model.context_window, model.max_output), (Some(128_000), Some(16_384)));
    assert!(model.capabilities.tools && model.capabilities.vision && !model.capabilities.audio);
    let sonnet = &catalog.entry("anthropic", "claude-sonnet-4-6").unwrap().prices;
    assert_eq!(sonnet.cache_write, Some(Money(3_750_000)));
    assert_eq!(sonnet.cache_write_1h, Some(Money(6_000_000)));
    assert_eq!(catalog.by_name("no-such-model"), []);
}

#[test]
fn every_price_in_the_shipped_file_makes_sense() {
    let catalog = shipped();
    for entry in catalog.by_name.values().flatten() {
        let prices = &entry.prices;
        let name = &entry.name;
        assert!(prices.input > Money::ZERO, "{name} is free");
        assert!(prices.cached_read.is_none_or(|read| read <= prices.input), "{name}: reading a cache costs extra");
        assert!(prices.output >= prices.input || entry.kind == Kind::Embeddings, "{name}: answers are too cheap");
    }
}

#[test]
fn a_dated_name_has_the_price_of_the_undated_one() {
    let text = "[[model]]\nname = \"m\"\nprovider = \"openai\"\ninput = 1\noutput = 2\n\
        [[model]]\nname = \"m-2024-05-13\"\nprovider = \"openai\"\ninput = 5\noutput = 15\n";
    let catalog = Catalog::parse(text, "m.toml", &PROVIDERS).unwrap();
    let input = |name| catalog.price("openai", name).map(|prices| prices.input);
    for name in ["m", "m-2024-08-06", "m-20250929", "m@20250929"] {
        assert_eq!(input(name), Some(Money(1_000_000)), "{name}");
    }
    assert_eq!(input("m-2024-05-13"), Some(Money(5_000_000)), "its own entry comes first");
    for name in ["m-mini", "m-0613", "m-2024", "m-2024-08", "mé-2024-08-06", "-20250929", "20250929"] {
        assert_eq!(input(name), None, "{name}");
    }
    assert!(catalog.price("groq", "m").is_none());
    assert!(catalog.entry("openai", "m-20250929").is_none(), "an entry is found by its exact name only");
}

#[test]
fn the_names_of_the_guide_resolve_at_all_three_providers() {
    let catalog = shipped();
    let homes = [
        ("gpt-4", "openai"),
        ("gpt-3.5-turbo", "openai"),
        ("claude-v1", "anthropic"),
        ("claude-v2", "anthropic"),
        ("groq-fast", "groq"),
        ("groq-reliable", "groq"),
    ];
    for (name, home) in homes {
        let entries = catalog.alias(name).unwrap_or_else(|| panic!("{name} is no alias"));
        assert_eq!(entries[0].provider, home, "{name}");
        let providers: std::collections::HashSet<_> = entries.iter().map(|entry| entry.provider).collect();
        assert_eq!(providers.len(), 3, "{name} lacks a provider");
        assert!(entries.iter().all(|entry| entry.capabilities.tools), "{name} can't call tools everywhere");
    }
    assert!(catalog.alias("gpt-4o").is_none());
}

#[test]
fn names_are_sorted_and_say_whose_they_are() {
    let text = "[alias]\nfast = [\"groq/b\", \"openai/b\"]\n\
        [[model]]\nname = \"b\"\nprovider = \"openai\"\ninput = 1\noutput = 2\n\
        [[model]]\nname = \"b\"\nprovider = \"groq\"\ninput = 1\noutput = 2\n\
        [[model]]\nname = \"a\"\nupstream = \"x/a\"\nprovider = \"groq\"\ninput = 1\noutput = 2\n";
    let catalog = Catalog::parse(text, "m.toml", &PROVIDERS).unwrap();
    let names: Vec<_> = catalog.names().collect();
    assert_eq!(names, [("a", "groq"), ("b", "groq"), ("b", "openai"), ("fast", ALIAS_OWNER)]);
    let by_name: Vec<_> = catalog.by_name("b").iter().map(|entry| entry.provider).collect();
    assert_eq!(by_name, ["openai", "groq"], "the order of the file");
    assert_eq!(catalog.entry("groq", "x/a").unwrap().name, "a");
    assert!(catalog.entry("groq", "a").is_none());
}

#[test]
fn every_mistake_is_reported_at_once_with_its_line() {
    let text = r#"models = 1
[[model]]
name = "a"
provider = "acme"
input = -1
output = "2"
capabilities = ["tools", "sight"]
[[model]]
provider = "openai"
input = 1
contxt_window = 5
[[model]]
name = "b"
provider = "groq"
input = 1
output = 2
[[model]]
name = "c"
upstream = "b"
provider = "groq"
input = 1
output = 2
[[model]]
name = "e"
provider = "openai"
kind = "embeddings"
input = 1
[alias]
none = []
odd = ["groq/b", "groq/b", "groq/zzz", "openai/e"]
"#;
    let price = "expected a price in USD per million tokens, from 0 to 1000000";
    let words = "\"tools\", \"vision\", \"documents\", \"audio\", \"json_schema\", \"reasoning\"";
    let expected = [
        "m.toml:1: models: unknown key; a catalogue has [[model]] and [alias]".to_owned(),
        "m.toml:4: model.provider: unknown provider; known are openai, anthropic, groq".to_owned(),
        format!("m.toml:5: model.input: {price}"),
        format!("m.toml:6: model.output: {price}"),
        format!("m.toml:7: model.capabilities: expected a list in brackets, each of them one of {words}"),
        "m.toml:8: model.name: missing: expected a text in quotes, not empty".to_owned(),
        format!("m.toml:8: model.output: missing: {price}"),
        "m.toml:11: model.contxt_window: unknown key; did you mean model.context_window?".to_owned(),
        "m.toml:18: model.name: this provider has this upstream model already; a second name for it is an alias"
            .to_owned(),
        "m.toml:29: alias.none: expected a list of \"provider/model\", not empty".to_owned(),
        "m.toml:30: alias.odd: \"groq/b\" stands twice".to_owned(),
        "m.toml:30: alias.odd: chat and embedding models cannot stand for each other".to_owned(),
        "m.toml:30: alias.odd: the catalogue has no \"groq/zzz\"".to_owned(),
    ];
    assert_eq!(mistakes(text), expected.join("\n"));
}

#[test]
fn broken_toml_shows_its_line() {
    let found = mistakes("[[model]]\nname = \nprovider = \"openai\"\n");
    assert!(found.contains("m.toml:2: "), "{found}");
}

#[test]
fn a_catalogue_file_replaces_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("models.toml");
    std::fs::write(&path, "").unwrap();
    assert_eq!(Catalog::load(Some(&path)).unwrap().names().count(), 0);
    let missing = Catalog::load(Some(&folder.path().join("none.toml"))).unwrap_err().to_string();
    assert!(missing.contains("none.toml: cannot be read: "), "{missing}");
}

proptest::proptest! {
    #[test]
    fn a_damaged_catalogue_is_read_or_refused_but_never_panics(
        from in 0..3000_usize, length in 0..40_usize, with in ".{0,4}",
    ) {
        let text: String = BUILT_IN.chars().take(4000).enumerate()
            .filter_map(|(index, letter)| (index < from || index >= from + length).then_some(letter)).collect();
        let (head, tail) = text.split_at_checked(from).unwrap_or((&text, ""));
        if let Err(problems) = Catalog::parse(&format!("{head}{with}{tail}"), "m.toml", &PROVIDERS) {
            assert!(!problems.0.is_empty());
        }
    }
}
