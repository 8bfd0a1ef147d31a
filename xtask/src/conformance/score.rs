//! What a run of the suite reached.

use std::collections::BTreeMap;
use std::fmt;

/// Counts what passed, of how many.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Share {
    passed: usize,
    of: usize,
}

/// Is what one run of the suite reached.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Score {
    /// The scenarios that conformance needs; all, where the suite doesn't say which.
    required: Share,
    /// All scenarios that ran.
    ran: Share,
    /// The checks inside them that passed.
    checks: usize,
    failing: Vec<String>,
    /// Those among the failing ones that conformance needs.
    needed: Vec<String>,
}

/// Compares a server alone with the same server behind the hub.
pub(crate) struct Row {
    pub(crate) revision: &'static str,
    pub(crate) alone: Score,
    pub(crate) through: Score,
    /// What the hub reaches as a client, where the suite says what is required.
    pub(crate) as_client: Option<Score>,
}

impl Score {
    /// Reads the summary at the end of what the suite prints; nothing if there is none.
    pub(crate) fn read(printed: &str) -> Option<Self> {
        let (_, summary) = printed.split_once("SUMMARY ===\n")?;
        let (scenarios, optional) = summary.split_once("Not scored").unwrap_or((summary, ""));
        let optional: Vec<&str> =
            optional.lines().filter_map(|line| Some(scenario(line.trim())?.1)).collect();
        let (mut score, mut found) = (Self::default(), BTreeMap::new());
        for line in scenarios.lines() {
            let Some((passed, name, Some(checks))) = scenario(line).map(|(passed, rest)| {
                let (name, counts) = rest.split_once(':').unwrap_or((rest, ""));
                (passed, name, counts.trim().split(' ').next().and_then(|count| count.parse::<usize>().ok()))
            }) else {
                continue;
            };
            score.checks += checks;
            found.insert(name.to_owned(), passed);
        }
        for (name, passed) in found {
            let is_optional = optional.iter().any(|line| line.split(' ').next() == Some(name.as_str()));
            score.ran.count(passed);
            if !is_optional {
                score.required.count(passed);
                score.needed.extend((!passed).then(|| name.clone()));
            }
            if !passed {
                score.failing.push(name);
            }
        }
        (score.ran.of > 0).then_some(score)
    }
}

/// Reads a line about a scenario: whether it passed, and the rest.
fn scenario(line: &str) -> Option<(bool, &str)> {
    let passed = |rest| (true, rest);
    let failed = |rest| (false, rest);
    line.strip_prefix("✓ ").map(passed).or_else(|| line.strip_prefix("✗ ").map(failed))
}

impl Share {
    const fn count(&mut self, passed: bool) {
        self.of += 1;
        if passed {
            self.passed += 1;
        }
    }
}

impl Row {
    /// Names what passes without the hub and fails behind it, and what fails with the hub as a client.
    pub(crate) fn lost(&self) -> Vec<String> {
        let as_client = self.as_client.iter().flat_map(|score| &score.needed);
        let is_lost = |name: &&String| !self.alone.failing.contains(name);
        self.through
            .failing
            .iter()
            .filter(is_lost)
            .chain(as_client)
            .map(|name| format!("{name} ({})", self.revision))
            .collect()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.passed, self.of)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} required, {} run, {} checks", self.required, self.ran, self.checks)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {} (the server alone: {})", self.revision, self.through, self.alone)?;
        self.as_client.as_ref().map_or(Ok(()), |score| write!(out, "; as a client: {score}"))
    }
}

/// Writes the table for the README.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table =
        "| revision | required | all that ran | checks | the server alone | as a client |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for Row { revision, alone, through, as_client } in rows {
        let (required, ran, checks) = (through.required, through.ran, through.checks);
        let alone = format!("{}, {}, {}", alone.required, alone.ran, alone.checks);
        // How often the hub is asked something beside depends on the moment, so that its checks aren't counted.
        let as_client = as_client.as_ref().map_or_else(|| "–".to_owned(), |score| score.required.to_string());
        table.push_str(&format!("| {revision} | {required} | {ran} | {checks} | {alone} | {as_client} |\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "✓ not here: 9 passed\n=== SUMMARY ===\n✓ ping: 2 passed, 0 failed\n✗ tools-list: 3 passed, 1 failed\n\
        ✗ tasks: 1 passed, 7 failed\n\nTotal: 6 passed, 8 failed\n\nNot scored for 2026-07-28: 1 scenario(s) run.\n  ✗ tasks (extension)\n";

    #[test]
    fn a_summary_is_counted() {
        let score = Score::read(PRINTED).unwrap();
        assert_eq!(score.to_string(), "1/2 required, 1/3 run, 6 checks");
        assert_eq!(score.failing, ["tasks", "tools-list"]);
        assert_eq!(Score::read("nothing"), None);
        assert_eq!(Score::read("=== SUMMARY ===\nTotal: 0 passed\n"), None);
    }

    #[test]
    fn only_what_passes_alone_can_be_lost() {
        let through = Score::read(PRINTED).unwrap();
        let alone = Score { failing: vec!["tasks".to_owned()], ..Score::default() };
        let mut row = Row { revision: "2026-07-28", alone, through, as_client: None };
        assert_eq!(row.lost(), ["tools-list (2026-07-28)"]);
        row.through = row.alone.clone();
        assert!(row.lost().is_empty());
        assert!(table(&[row]).ends_with("| 2026-07-28 | 0/0 | 0/0 | 0 | 0/0, 0/0, 0 | – |\n"));
    }

    #[test]
    fn a_client_has_to_pass_what_is_required_and_no_more() {
        let (alone, through) = Default::default();
        let as_client = Score::read(&PRINTED.replace("=== SUMMARY", "=== SUITE SUMMARY"));
        let row = Row { revision: "2026-07-28", alone, through, as_client };
        assert_eq!(row.lost(), ["tools-list (2026-07-28)"]);
        assert!(table(&[row]).ends_with(" | 1/2 |\n"));
    }
}
