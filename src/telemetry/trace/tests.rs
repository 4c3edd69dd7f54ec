//! The examples of the W3C's recommendation, and what a hostile client makes of it.

use super::*;
use proptest::prelude::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NEW_TRACE: u128 = 0x1111;
const OWN: u64 = 0x2222;
const ATTEMPT: u64 = 0x3333;

const EXPORTS: Policy = Policy { exports: true, sample: 1.0, propagate: Propagate::Auto };
const SILENT: Policy = Policy { exports: false, ..EXPORTS };

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

fn begin(list: &[(&'static str, &str)], policy: Policy) -> TraceContext {
    TraceContext::begin(&headers(list), policy, NEW_TRACE, OWN)
}

fn onward(context: &TraceContext) -> Vec<(String, String)> {
    let text = |(name, value): (HeaderName, HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    context.headers(ATTEMPT).map(text).collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn the_clients_trace_is_gone_on_with() {
    let context = begin(&[("traceparent", GIVEN), ("tracestate", "rojo=1,congo=t61")], EXPORTS);
    assert_eq!(format!("{:032x}", context.trace_id), TRACE);
    assert_eq!((context.parent, context.span_id, context.sampled), (Some(0x00f0_67aa_0ba9_02b7), OWN, true));
    let ours = format!("00-{TRACE}-{ATTEMPT:016x}-01");
    assert_eq!(onward(&context), [pair("traceparent", &ours), pair("tracestate", "rojo=1,congo=t61")]);
    assert_eq!(context.response(), Some(format!("00-{TRACE}-{OWN:016x}-01")));
}

#[test]
fn a_header_that_is_not_right_to_the_letter_begins_a_new_trace_and_its_state_is_gone() {
    let wrong = [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ];
    for text in wrong {
        let context = begin(&[("traceparent", text), ("tracestate", "a=1")], EXPORTS);
        assert_eq!((context.trace_id, context.parent, context.state), (NEW_TRACE, None, None), "{text}");
    }
    let mut two = headers(&[("traceparent", GIVEN)]);
    two.append(TRACEPARENT, HeaderValue::from_str(GIVEN).unwrap());
    assert_eq!(TraceContext::begin(&two, EXPORTS, NEW_TRACE, OWN).trace_id, NEW_TRACE, "two are none");
}

#[test]
fn a_later_version_may_say_more_and_is_answered_in_ours() {
    let context = begin(&[("traceparent", &format!("cc-{TRACE}-00f067aa0ba902b7-ff-what-comes"))], EXPORTS);
    assert_eq!(onward(&context), [pair("traceparent", &format!("00-{TRACE}-{ATTEMPT:016x}-03"))]);
}

#[test]
fn without_an_export_the_clients_own_span_stays_the_parent() {
    let context = begin(&[("traceparent", GIVEN), ("tracestate", "a=1")], SILENT);
    assert!(!context.sampled && context.response().is_none());
    assert_eq!(onward(&context), [pair("traceparent", GIVEN), pair("tracestate", "a=1")]);
    assert_eq!(onward(&begin(&[], SILENT)), [], "and who brought none gives none away");
}

#[test]
fn the_switch_for_providers_is_obeyed() {
    let policy = |propagate, exports| Policy { propagate, exports, ..EXPORTS };
    let never = begin(&[("traceparent", GIVEN), ("tracestate", "a=1")], policy(Propagate::Never, true));
    assert!(onward(&never).is_empty() && never.sampled, "spans are exported all the same");
    let always = begin(&[], policy(Propagate::Always, false));
    assert_eq!(onward(&always), [pair("traceparent", &format!("00-{NEW_TRACE:032x}-{ATTEMPT:016x}-02"))]);
}

#[test]
fn who_began_the_trace_decides_whether_it_is_recorded() {
    let none = Policy { sample: 0.0, ..EXPORTS };
    assert!(begin(&[("traceparent", GIVEN)], none).sampled);
    let unsampled = GIVEN.replace("-01", "-00");
    let context = begin(&[("traceparent", &unsampled)], EXPORTS);
    assert!(!context.sampled);
    assert_eq!(onward(&context), [pair("traceparent", &format!("00-{TRACE}-{ATTEMPT:016x}-00"))]);
    assert!(begin(&[], EXPORTS).sampled && !begin(&[], none).sampled);
}

#[test]
fn a_share_of_the_traces_is_drawn_by_their_ids() {
    let some = Policy { sample: 0.25, ..EXPORTS };
    let drawn = (0_u64..10_000).filter(|_| {
        let id = u128::from(rand::random::<u64>()) << 64 | u128::from(rand::random::<u64>());
        let first = TraceContext::begin(&HeaderMap::new(), some, id, OWN).sampled;
        assert_eq!(first, TraceContext::begin(&HeaderMap::new(), some, id, 9).sampled, "all who ask agree");
        first
    });
    // Six standard deviations.
    assert!((2240..2760).contains(&drawn.count()));
}

#[test]
fn a_state_is_taken_whole_or_not_at_all() {
    let state = |values: &[&str]| {
        let mut map = headers(&[("traceparent", GIVEN)]);
        for value in values {
            map.append(TRACESTATE, HeaderValue::from_str(value).unwrap());
        }
        TraceContext::begin(&map, EXPORTS, NEW_TRACE, OWN).state
    };
    assert_eq!(state(&["a=1 , b=2", "", "t@v=x y,,"]).as_deref(), Some("a=1,b=2,t@v=x y"));
    let many: Vec<String> = (0..33).map(|place| format!("k{place}=v")).collect();
    for wrong in ["a", "A=1", "=1", "a=", "a=1=2", "a=1,a=2", &format!("{}=1", "k".repeat(257)), &many.join(",")] {
        assert_eq!(state(&[wrong]), None, "{wrong}");
    }
    let long = format!("old={},l={},{}=x", "1".repeat(200), "2".repeat(200), "z".repeat(120));
    let kept = state(&[&long]).unwrap();
    assert!(
        kept.len() <= MAX_STATE && kept.starts_with("old=") && kept.ends_with("zz=x"),
        "the last long one went: {kept}"
    );
}

proptest! {
    #[test]
    fn what_goes_on_is_always_in_the_standards_form(parent in "[ -~]{0,80}", state in "[ -~]{0,700}") {
        let context = begin(&[("traceparent", &parent), ("tracestate", &state)], EXPORTS);
        let sent = onward(&context);
        let again = headers(&[("traceparent", &sent[0].1)]);
        prop_assert!(super::parent(&again).is_some());
        prop_assert!(sent.get(1).is_none_or(|(_, state)| state.len() <= MAX_STATE));
    }

    #[test]
    fn a_right_header_is_read_as_it_stands(trace in 1_u128.., span in 1_u64.., flags in 0_u8..4) {
        let text = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
        let context = begin(&[("traceparent", &text)], SILENT);
        prop_assert_eq!(onward(&context), [pair("traceparent", &text)]);
    }
}
