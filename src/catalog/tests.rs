//! What the catalogue promises: the shipped file is valid, prices are found, aliases resolve, mistakes show their lines.

use super::*;
use crate::money::Money;
use crate::usage::ServiceTier;

const PROVIDERS: [&str; 3] = ["openai", "anthropic", "groq"];

fn shipped() -> Catalog {
    let providers: Vec<&str> = crate::provider::PROVIDERS.iter().map(|provider| provider.name).collect();
    Catalog::parse(BUILT_IN, "conf/models.toml", &providers).unwrap_or_else(|problems| panic!("{problems}"))
}

fn mistakes(text: &str) -> String {
    Catalog::parse(text, "m.toml", &PROVIDERS).expect_err("the text has mistakes").to_string()
}

#[test]
fn the_shipped_catalogue_has_models_of_the_providers_with_published_prices() {
    let catalog = shipped();
    for (provider, least) in
        [("openai", 50), ("anthropic", 15), ("groq", 10), ("fireworks", 40), ("openrouter", 50), ("xai", 10)]
    {
        let count = catalog.served_by(provider).count();
        assert!(count >= least, "{count} models of {provider}");
    }
    let embeddings = catalog.entry("openai", "text-embedding-3-small").unwrap();
    assert_eq!((embeddings.kind, embeddings.prices.first.usual.base.output), (Kind::Embeddings, Money::ZERO));
}

#[test]
fn a_model_is_read_as_it_was_written() {
    let catalog = shipped();
    let model = catalog.entry("openai", "gpt-4o").unwrap();
    assert_eq!((model.provider, model.upstream.as_str(), model.kind), ("openai", "gpt-4o", Kind::Chat));
    assert_eq!(model.prices.first.usual.base.input, Money(2_500_000));
    assert_eq!(model.prices.first.usual.base.output, Money(10_000_000));
    assert_eq!(model.prices.first.usual.base.cached_read, Some(Money(1_250_000)));
    assert_eq!((model.context_window, model.max_output), (Some(128_000), Some(16_384)));
    assert!(model.capabilities.tools && model.capabilities.vision && !model.capabilities.audio);
    let sonnet = &catalog.entry("anthropic", "claude-sonnet-4-6").unwrap().prices.first.usual.base;
    assert_eq!(sonnet.cache_write, Some(Money(3_750_000)));
    assert_eq!(sonnet.cache_write_1h, Some(Money(6_000_000)));
    assert_eq!(catalog.by_name("no-such-model"), []);
}

#[test]
fn every_price_in_the_shipped_file_makes_sense() {
    let catalog = shipped();
    for entry in catalog.by_name.values().flatten() {
        let name = format!("{} at {}", entry.name, entry.provider);
        // A model server that needs no key bills nobody by the token.
        let unbilled = crate::provider::find(entry.provider).is_some_and(|provider| provider.keyless);
        let all = std::iter::once(&entry.prices.first).chain(entry.prices.changes.iter().map(|(_, prices)| prices));
        let all = all.flat_map(|prices| std::iter::once(prices).chain(prices.peak.iter().map(|peak| &peak.prices)));
        for sheet in
            all.flat_map(|prices| std::iter::once(&prices.usual).chain(prices.services.iter().map(|(_, sheet)| sheet)))
        {
            sheet_makes_sense(sheet, &name, unbilled, entry.kind);
        }
        let window = entry.context_window.unwrap_or(u64::MAX);
        assert!(window >= 512 && entry.max_output.unwrap_or(1) > 0, "{name}: {window} tokens of context");
    }
}

fn sheet_makes_sense(sheet: &Sheet, name: &str, unbilled: bool, kind: Kind) {
    let mut shorter = &sheet.base;
    for rates in std::iter::once(&sheet.base).chain(sheet.tiers.iter().map(|tier| &tier.rates)) {
        assert!(rates.input > Money::ZERO || unbilled, "{name} is free");
        assert!(rates.cached_read.is_none_or(|read| read <= rates.input), "{name}: reading a cache costs extra");
        let longer = rates.cache_write_1h.is_none_or(|hour| Some(hour) >= rates.cache_write);
        assert!(longer, "{name}: a longer cache is cheaper");
        assert!(rates.output >= rates.input || kind == Kind::Embeddings, "{name}: answers are too cheap");
        assert!(rates.thinking_output.is_none_or(|thought| thought > rates.output), "{name}: thinking is cheaper");
        assert!(rates.input >= shorter.input && rates.output >= shorter.output, "{name}: a long prompt is cheaper");
        assert_eq!(rates.cached_read.is_some(), shorter.cached_read.is_some(), "{name}: a tier forgot the cache");
        assert_eq!(rates.cache_write.is_some(), shorter.cache_write.is_some(), "{name}: a tier forgot the cache");
        shorter = rates;
    }
    assert!(sheet.tiers.iter().all(|tier| tier.above >= 32_000), "{name}: a tier for short prompts");
}

#[test]
fn a_dated_name_has_the_price_of_the_undated_one() {
    let text = "[[model]]\nname = \"m\"\nprovider = \"openai\"\ninput = 1\noutput = 2\n\
        [[model]]\nname = \"m-2024-05-13\"\nprovider = \"openai\"\ninput = 5\noutput = 15\n";
    let catalog = Catalog::parse(text, "m.toml", &PROVIDERS).unwrap();
    let input = |name| catalog.price("openai", name).map(|prices| prices.first.usual.base.input);
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
fn the_names_of_the_guide_work_with_any_one_of_three_providers() {
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
        for provider in PROVIDERS {
            assert!(entries.iter().any(|entry| entry.provider == provider), "{name} lacks {provider}");
        }
    }
    assert!(catalog.alias("gpt-4o").is_none(), "an exact name is no alias");
}

#[test]
fn what_stands_for_each_other_can_do_the_same() {
    let catalog = shipped();
    for (alias, entries) in catalog.aliases() {
        let providers: std::collections::HashSet<_> = entries.iter().map(|entry| entry.provider).collect();
        assert_eq!(
            providers.len(),
            entries.len(),
            "{alias} names a provider twice; only its first model would be asked"
        );
        assert!(providers.len() >= 2, "{alias} has nothing to fall back to");
        for entry in entries {
            assert_eq!(entry.kind, Kind::Chat, "{alias}: vectors of two models do not compare");
            // The oldest names of the guide stand for what their providers still answer to.
            let old = entry.name == alias;
            assert!(entry.capabilities.tools || old, "{alias}: {} at {} calls no tools", entry.name, entry.provider);
        }
    }
}

#[test]
fn one_name_is_one_model_wherever_it_is_served() {
    let catalog = shipped();
    let providers = |name: &str| -> Vec<_> { catalog.by_name(name).iter().map(|entry| entry.provider).collect() };
    for (name, some) in [
        ("gpt-4o", &["azure", "openai", "openrouter"][..]),
        ("claude-sonnet-4-5", &["anthropic", "bedrock", "openrouter"]),
        ("claude-opus-5-5", &["anthropic", "bedrock", "openrouter", "vertex"]),
        ("gemini-3.5-flash", &["gemini", "openrouter", "vertex"]),
        ("gpt-oss-120b", &["bedrock", "cerebras", "fireworks", "groq", "openrouter", "sambanova", "together"]),
        ("llama-3.3-70b", &["bedrock", "fireworks", "groq", "openrouter", "sambanova", "together"]),
        ("deepseek-v4-pro", &["alibaba", "deepseek", "fireworks", "openrouter"]),
        ("kimi-k3", &["bedrock", "fireworks", "moonshot", "openrouter", "together"]),
        ("glm-5.2", &["alibaba", "fireworks", "mistral", "openrouter", "together", "zai"]),
        ("qwen3-32b", &["bedrock", "fireworks", "groq", "openrouter"]),
    ] {
        let found = providers(name);
        assert!(some.iter().all(|provider| found.contains(provider)), "{name} is at {found:?} only");
    }
    for entries in catalog.by_name.values() {
        let kinds: std::collections::HashSet<_> = entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds.len(), 1, "{} is for chat here and for embeddings there", entries[0].name);
        let bare = |entry: &Arc<ModelEntry>| entry.upstream.rsplit('/').next().unwrap_or_default().to_lowercase();
        let vectors = entries.iter().filter(|entry| entry.kind == Kind::Embeddings);
        for entry in vectors {
            assert!(entry.name.to_lowercase().ends_with(&bare(entry)), "{} is {} there", entry.name, entry.upstream);
        }
    }
}

#[test]
fn a_model_has_a_public_name_and_the_name_that_its_provider_gave_it() {
    let text = "[alias]\nfast = [\"groq/b\", \"openai/b\"]\n\
        [[model]]\nname = \"b\"\nprovider = \"openai\"\ninput = 1\noutput = 2\n\
        [[model]]\nname = \"b\"\nprovider = \"groq\"\ninput = 1\noutput = 2\n\
        [[model]]\nname = \"a\"\nupstream = \"x/a\"\nprovider = \"groq\"\ninput = 1\noutput = 2\n";
    let catalog = Catalog::parse(text, "m.toml", &PROVIDERS).unwrap();
    let by_name: Vec<_> = catalog.by_name("b").iter().map(|entry| entry.provider).collect();
    assert_eq!(by_name, ["openai", "groq"], "the order of the file");
    assert_eq!(catalog.entry("groq", "x/a").unwrap().name, "a");
    assert!(catalog.entry("groq", "a").is_none());
    assert!(catalog.is_upstream("x/a") && !catalog.is_upstream("a"));
    let mut served: Vec<_> = catalog.served_by("groq").collect();
    served.sort_unstable();
    assert_eq!((served, catalog.served_by("anthropic").count()), (vec!["a", "b"], 0));
    let aliases: Vec<_> = catalog.aliases().map(|(name, entries)| (name, entries.len())).collect();
    assert_eq!(aliases, [("fast", 2)]);
}

#[test]
fn a_long_prompt_has_the_prices_of_its_tier() {
    let text = "[[model]]\nname = \"m\"\nprovider = \"openai\"\ninput = 1\noutput = 2\ncached_read = 0.1\ntiers = [\n\
        { above = 100, input = 3, output = 4, cached_read = 0.3, audio_input = 5 },\n\
        { above = 200, input = 6, output = 7, thinking_output = 8 } ]\n";
    let catalog = Catalog::parse(text, "m.toml", &PROVIDERS).unwrap();
    let prices = &catalog.price("openai", "m").unwrap().first;
    let input = |tokens| prices.for_prompt(tokens).input;
    assert_eq!(
        [0, 100, 101, 200, 201, u64::MAX].map(input),
        [1, 1, 3, 3, 6, 6].map(|dollars| Money(dollars * 1_000_000))
    );
    assert_eq!(prices.usual.tiers[0].rates.audio_input, Some(Money(5_000_000)));
    assert_eq!(prices.usual.tiers[1].rates.thinking_output, Some(Money(8_000_000)));
    assert_eq!(prices.for_prompt(201).cached_read, None, "a tier inherits nothing");
    assert_eq!(prices.usual.base.cached_read, Some(Money(100_000)));
    assert_eq!(prices.expected(101, 10), Money((101 * 3 + 10 * 4) * 1_000_000));
}

#[test]
fn a_service_tier_has_its_own_prices_and_its_own_for_long_prompts() {
    let text = "[[model]]\nname = \"m\"\nprovider = \"openai\"\ninput = 1\noutput = 2\nweb_search = 0.01\nrequest = 2e-3\nregional = 1.1\n\
        flex = { input = 0.5, output = 1, cached_read = 0.05, tiers = [{ above = 100, input = 0.7, output = 1.5 }] }\n\
        [model.priority]\ninput = 2\noutput = 4\n";
    let catalog = Catalog::parse(text, "m.toml", &PROVIDERS).unwrap();
    let prices = &catalog.price("openai", "m").unwrap().first;
    let input = |tier, tokens| prices.service(tier).map(|sheet| sheet.for_prompt(tokens).input);
    assert_eq!(input(ServiceTier::Standard, 101), Some(Money(1_000_000)));
    assert_eq!([100, 101].map(|tokens| input(ServiceTier::Flex, tokens)), [Some(Money(500_000)), Some(Money(700_000))]);
    assert_eq!(input(ServiceTier::Priority, 101), Some(Money(2_000_000)));
    assert_eq!(input(ServiceTier::Batch, 1), None);
    assert_eq!((prices.web_search, prices.regional_percent), (Some(Money(10_000_000_000)), Some(110)));
    assert_eq!(prices.request, Some(Money(2_000_000_000)));
}

#[test]
fn a_price_holds_from_its_day_on_and_what_is_not_said_anew_is_not_inherited() {
    let text = "[[model]]\nname = \"m\"\nprovider = \"openai\"\ninput = 1\noutput = 2\ncached_read = 0.1\n\
        [[model.prices]]\nfrom = 2026-09-01\ninput = 3\noutput = 4\n\
        [[model.prices]]\nfrom = \"2026-10-01T12:00:00Z\"\ninput = 5\noutput = 6\nflex = { input = 2, output = 3 }\n";
    let catalog = Catalog::parse(text, "m.toml", &PROVIDERS).unwrap();
    let list = catalog.price("openai", "m").unwrap();
    let input = |moment: &str| list.at(moment.parse().unwrap()).usual.base.input;
    let table = [
        ("2020-01-01T00:00:00Z", 1),
        ("2026-08-31T23:59:59.999Z", 1),
        ("2026-09-01T00:00:00Z", 3),
        ("2026-10-01T11:59:59Z", 3),
        ("2026-10-01T12:00:00Z", 5),
        ("2030-01-01T00:00:00Z", 5),
    ];
    for (moment, dollars) in table {
        assert_eq!(input(moment), Money(dollars * 1_000_000), "{moment}");
    }
    let changed = list.at("2026-09-02T00:00:00Z".parse().unwrap());
    assert_eq!(changed.usual.base.cached_read, None);
    assert!(list.changes[1].1.service(ServiceTier::Flex).is_some());
}

#[test]
fn some_hours_of_the_working_days_are_dearer() {
    let text = "[[model]]\nname = \"m\"\nprovider = \"openai\"\ninput = 1\noutput = 2\n\
        peak = { hours = [\"01:00-04:00\", \"22:30-24:00\"], weekdays = true, input = 3, output = 4 }\n";
    let catalog = Catalog::parse(text, "m.toml", &PROVIDERS).unwrap();
    let list = catalog.price("openai", "m").unwrap();
    let input = |moment: &str| list.at(moment.parse().unwrap()).usual.base.input;
    let table = [
        ("2026-11-26T00:59:59.999Z", 1),
        ("2026-11-26T01:00:00Z", 3),
        ("2026-11-26T03:59:59Z", 3),
        ("2026-11-26T04:00:00Z", 1),
        ("2026-11-26T23:59:59Z", 3),
        ("2026-11-28T02:00:00Z", 1),
        ("2026-11-29T02:00:00Z", 1),
        ("2026-11-30T02:00:00Z", 3),
    ];
    for (moment, dollars) in table {
        assert_eq!(input(moment), Money(dollars * 1_000_000), "{moment}");
    }
    let hours = |hours: &str| text.replace("01:00-04:00", hours);
    for wrong in
        ["4:00", "04:00-01:00", "01:00-01:00", "01:60-02:00", "1-2", "23:00-24:01", "-1:00-02:00", "9999:00-9999:01"]
    {
        assert!(mistakes(&hours(wrong)).contains("model.peak.hours: expected a list in brackets"), "{wrong}");
    }
}

#[test]
fn a_mistake_in_a_change_or_a_service_shows_its_line() {
    let model = "[[model]]\nname = \"m\"\nprovider = \"openai\"\ninput = 1\noutput = 2\n";
    let mistake = |more: &str| mistakes(&format!("{model}{more}"));
    let change = |from: &str| format!("[[model.prices]]\nfrom = {from}\ninput = 1\noutput = 2\n");
    let day = "expected a day such as 2026-09-01, or a moment such as 2026-09-01T07:00:00Z";
    assert_eq!(mistake(&change("\"soon\"")), format!("m.toml:7: model.prices.from: {day}"));
    assert!(mistake("[[model.prices]]\ninput = 1\noutput = 2\n").contains("model.prices.from: missing: "));
    let order = mistake(&(change("2026-09-01") + &change("2026-09-01")));
    assert!(order.ends_with("model.prices: the earliest `from` must come first, and each only once"), "{order}");
    assert!(mistake("prices = 5\n").starts_with("m.toml:6: model.prices: expected tables"));
    let flex = mistake("flex = { input = 1, outptu = 2 }\n");
    assert!(flex.contains("m.toml:6: model.flex.outptu: unknown key; did you mean model.flex.output?"), "{flex}");
    assert!(mistake("batch = 5\n").starts_with("m.toml:6: model.batch: expected a table"));
    assert!(mistake("regional = 0.5\n").contains("model.regional: expected a factor"));
    assert!(mistake("web_search = -1\n").contains("model.web_search: expected a price in USD of each"));
}

#[test]
fn a_mistake_in_a_tier_shows_its_line() {
    let model = "[[model]]\nname = \"m\"\nprovider = \"openai\"\ninput = 1\noutput = 2\n";
    let price = "expected a price in USD per million tokens, from 0 to 1000000";
    let mistake = |tiers: &str| mistakes(&format!("{model}{tiers}"));
    assert_eq!(
        mistake("tiers = [\n{ above = -1, input = 1, outptu = 2 }]\n"),
        format!(
            "m.toml:7: model.tiers.above: expected a whole number\n\
            m.toml:7: model.tiers.outptu: unknown key; did you mean model.tiers.output?\n\
            m.toml:7: model.tiers.output: missing: {price}"
        )
    );
    let order = "m.toml:6: model.tiers: the lowest threshold must come first, and each only once";
    let tier = |above| format!("{{ above = {above}, input = 1, output = 2 }}");
    assert_eq!(mistake(&format!("tiers = [{}, {}]\n", tier(2), tier(1))), order);
    assert_eq!(mistake(&format!("tiers = [{}, {}]\n", tier(2), tier(2))), order);
    assert!(mistake("tiers = 5\n").starts_with("m.toml:6: model.tiers: expected a list of tables"));
    assert!(mistake("tiers = [5]\n").starts_with("m.toml:6: model.tiers: expected a table"));
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
    assert_eq!(Catalog::load(Some(&path)).unwrap().by_name.len(), 0);
    let missing = Catalog::load(Some(&folder.path().join("none.toml"))).unwrap_err().to_string();
    assert!(missing.contains("none.toml: cannot be read: "), "{missing}");
}

proptest::proptest! {
    #[test]
    fn a_damaged_catalogue_is_read_or_refused_but_never_panics(
        from in 0..5000_usize, length in 0..40_usize, with in ".{0,4}",
    ) {
        let written = BUILT_IN.lines().filter(|line| !line.starts_with('#')).take(200);
        let written: String = written.flat_map(|line| [line, "\n"]).collect();
        let text: String = written.chars().enumerate()
            .filter_map(|(index, letter)| (index < from || index >= from + length).then_some(letter)).collect();
        let (head, tail) = text.split_at_checked(from).unwrap_or((&text, ""));
        if let Err(problems) = Catalog::parse(&format!("{head}{with}{tail}"), "m.toml", &PROVIDERS) {
            assert!(!problems.0.is_empty());
        }
    }
}
