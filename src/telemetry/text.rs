//! The access log for people: one line for each request, coloured where that is wanted.

use std::io::Write as _;

use super::end::{Level, MAX_TEXT, RequestEnd};
use super::escape::{shown, word};
use super::line::{Totals, route};

const DIM: &str = "\u{1b}[2m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// Writes the line of a request. Writing to a vector can't fail.
pub(super) fn write(end: &RequestEnd, colours: bool, out: &mut Vec<u8>) {
    let paint = |colour: &'static str| if colours { colour } else { "" };
    let level = end.level();
    let colour = paint(match level {
        Level::Info => GREEN,
        Level::Warn => YELLOW,
        Level::Error => RED,
    });
    let (dim, plain) = (paint(DIM), paint(PLAIN));
    let _ = write!(
        out,
        "{dim}{:.6}{plain} {colour}{:>5} {}{plain}",
        end.ended(),
        level.as_str().to_ascii_uppercase(),
        end.status
    );
    let _ = write!(out, " {} {}", end.method, word(&shown(&end.path, MAX_TEXT)));
    if let Some(booking) = &end.booking {
        let _ = write!(out, " {}", word(&booking.model));
        if let Some(route) = route(booking.provider.as_deref(), booking.model_served.as_deref()) {
            let _ = write!(out, " → {}", word(&route));
        }
    }
    if end.failure().is_some() {
        let _ = write!(out, " {colour}{}{plain}", end.reason());
    }
    let _ = write!(out, " {} ms", end.millis());
    if let Some(booking) = &end.booking {
        if let Some(first) = booking.first_token_ms {
            let _ = write!(out, " (first {first})");
        }
        let totals = Totals::of(&booking.attempts);
        let _ = write!(out, " {} tokens ${}", totals.usage.total_tokens(), totals.cost.decimal());
        if let Some(certainty) = totals.certainty {
            let _ = write!(out, " {}", certainty.as_str());
        }
        if booking.attempts.len() > 1 {
            let _ = write!(out, " {} attempts", booking.attempts.len());
        }
    }
    let _ = write!(out, " {dim}");
    for name in [&end.workspace, &end.key].into_iter().flatten() {
        let _ = write!(out, "{name} ");
    }
    let _ = writeln!(out, "{}{plain}", word(&shown(&end.request_id, MAX_TEXT)));
}

#[cfg(test)]
mod tests {
    use super::super::end::sample::ended;
    use super::*;

    fn line(end: &RequestEnd, colours: bool) -> String {
        let mut out = Vec::new();
        write(end, colours, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_says_what_a_person_looks_for_first() {
        assert_eq!(
            line(&ended(), false),
            "2026-11-26T18:00:00.300000Z  INFO 200 POST /v1/chat/completions gpt-4o → openai/gpt-4o-2024-08-06 300 ms (first 120) \
             300 tokens $36893488.147419103244 exact 2 attempts ws_1 key_1 req_1\n"
        );
    }

    #[test]
    fn a_stranger_can_neither_begin_a_line_nor_colour_one() {
        let mut end = ended();
        end.path = "/v1/\u{1b}[2J\n2026 INFO 200".to_owned();
        end.request_id = "a b".to_owned();
        let line = line(&end, true);
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains(r#""/v1/\u{1b}[2J\n2026 INFO 200""#) && line.contains(r#""a b""#), "{line}");
    }
}
