//! What people type: spans, times, pairs, and secrets on standard input.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use mcphub_domain::{Sandbox, SecretText, Timestamp};
use zeroize::Zeroizing;

use super::failure::Failure;

/// Is a time as people type it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// A point in time.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl Moment {
    /// Finds the point in time that it is.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => {
                let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
                Timestamp::from_micros(now.as_micros().saturating_sub(micros))
            }
        }
    }
}

/// Reads a sandbox: `off`, or a profile as JSON.
pub(crate) fn sandbox(text: &str) -> Result<Sandbox, String> {
    let json = if text == "off" { "\"off\"" } else { text };
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Reads a span such as `90s`, `30m`, `12h`, `30d` or `2w`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number with a unit, such as 90s, 30m, 12h, 30d or 2w".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// Reads a time such as `2026-11-22T10:00:00Z`, a day such as `2026-11-22` (UTC), or a span before now.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(span) = span(text) {
        return Ok(Moment::Ago(span));
    }
    let day =
        || text.parse::<jiff::civil::Date>()?.to_zoned(jiff::tz::TimeZone::UTC).map(|day| day.timestamp());
    let time = text.parse::<jiff::Timestamp>().or_else(|_| day());
    time.map(|time| Moment::At(Timestamp::from_micros(time.as_microsecond()))).map_err(|_| {
        "expected a time such as 2026-11-22T10:00:00Z, a day such as 2026-11-22, or 2h for two hours ago"
            .to_owned()
    })
}

/// Reads `NAME=VALUE`.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    pair(text, '=').ok_or_else(|| "expected NAME=VALUE".to_owned())
}

/// Reads `Name: value`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    pair(text, ':').ok_or_else(|| "expected 'Name: value'".to_owned())
}

fn pair(text: &str, between: char) -> Option<(String, String)> {
    let (name, value) = text.split_once(between)?;
    (!name.trim().is_empty()).then(|| (name.trim().to_owned(), value.trim_start().to_owned()))
}

/// Reads a secret from standard input. One line break at its end is not part of it.
///
/// A terminal is refused: it would wait without a word, and show what is typed.
pub(crate) fn secret() -> Result<SecretText, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::usage(
            "the value is read from standard input, which is a terminal: pipe it in, \
             such as `printf %s \"$TOKEN\" | mcphub credential set …`",
        ));
    }
    read_secret(stdin.lock())
}

/// Reads a secret from a file; `-` is standard input.
pub(crate) fn secret_in(file: &Path) -> Result<SecretText, Failure> {
    if file == Path::new("-") {
        return secret();
    }
    let opened = std::fs::File::open(file);
    read_secret(opened.map_err(|error| Failure::io(&file.display().to_string(), &error))?)
}

fn read_secret(source: impl Read) -> Result<SecretText, Failure> {
    let most = SecretText::MAX + 2;
    // Room for all that is read, so that growing leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * most));
    let mut source = source.take(most as u64 + 1);
    source.read_to_end(&mut bytes).map_err(|error| Failure::io("the value", &error))?;
    let wrong = || Failure::new("invalid", "the value that was read is not a text of 1 byte to 64 KiB");
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() || text.len() > SecretText::MAX {
        return Err(wrong());
    }
    Ok(SecretText::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Moment, Timestamp, header, moment, read_secret, span, variable};

    #[test]
    fn spans_have_a_number_and_a_unit() {
        assert_eq!(span("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "d", "30", "30y", "-1d", "1.5h", "99999999999d", "é"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_points_days_or_spans_before_now() {
        let time = Timestamp::from_micros(1_795_305_600_000_000);
        assert_eq!(moment("2026-11-22T00:00:00Z"), Ok(Moment::At(time)));
        assert_eq!(moment("2026-11-22"), Ok(Moment::At(time)));
        let ago = moment("1h").unwrap().resolve(time);
        assert_eq!(ago, Timestamp::from_micros(1_795_305_600_000_000 - 3_600_000_000));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn pairs_are_split_at_the_first_mark() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(
            header("Authorization: Bearer a:b"),
            Ok(("Authorization".to_owned(), "Bearer a:b".to_owned()))
        );
        assert!(variable("=x").is_err());
        assert!(header("x").is_err());
    }

    #[test]
    fn one_line_break_at_the_end_is_no_part_of_a_secret() {
        let read = |text: &str| read_secret(text.as_bytes()).ok().map(|secret| secret.expose().to_owned());
        assert_eq!(read("abc").as_deref(), Some("abc"));
        assert_eq!(read("abc\n").as_deref(), Some("abc"));
        assert_eq!(read("abc\r\n").as_deref(), Some("abc"));
        assert_eq!(read("abc\n\n").as_deref(), Some("abc\n"));
        assert_eq!(read("\n"), None);
        assert_eq!(read(&"x".repeat(64 * 1024)).map(|text| text.len()), Some(64 * 1024));
        assert_eq!(read(&"x".repeat(64 * 1024 + 1)), None);
    }
}
