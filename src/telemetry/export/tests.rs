//! Waits and answers; the way to a real collector is in the integration tests.

use super::*;

#[test]
fn each_failure_waits_longer_up_to_a_bound_and_never_less_than_was_asked() {
    let mut waits = Waits::default();
    let seconds = |waits: &mut Waits, asked| waits.next(asked, 1.0).as_secs_f64();
    let grown: Vec<f64> = (0..8).map(|_| seconds(&mut waits, None)).collect();
    assert_eq!(grown, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
    assert_eq!(seconds(&mut waits, Some(Duration::from_secs(45))), 45.0);
    waits.failures = u32::MAX;
    assert_eq!(waits.next(None, 0.0), Duration::from_secs(15));
}

#[test]
fn a_collector_may_take_a_part() {
    assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#), 3);
    assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":2}}"#), 2);
    for whole in
        [&b"{}"[..], b"", b"not json", br#"{"partialSuccess":{}}"#, br#"{"partialSuccess":{"rejectedSpans":"x"}}"#]
    {
        assert_eq!(rejected(whole), 0);
    }
}
