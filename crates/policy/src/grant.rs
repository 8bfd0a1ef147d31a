//! The rule of grants: default deny, explicit deny beats allow, rights don't imply each other.

use mcphub_domain::{Grant, Right, Tool, Verdict};

/// Says what some grants say about a tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// At least one gives the right, and none takes it away.
    Allowed,
    /// One takes the right away.
    Denied,
    /// None speaks of it.
    Silent,
}

/// Asks live grants on the tool's server whether the tool may be called.
pub fn weigh<'a>(grants: impl IntoIterator<Item = &'a Grant>, tool: &Tool) -> Finding {
    let right = tool.effect.right();
    sum_up(grants, |grant| grant.rights.contains(right) && grant.covers(&tool.name))
}

/// Asks live grants on a server whether its prompts and resources may be read. A grant for certain tools
/// says nothing of them.
pub fn weigh_reading<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> Finding {
    sum_up(grants, |grant| grant.rights.contains(Right::Read) && grant.tools.is_empty())
}

/// Asks live grants on a server whether everything may be done with it, also what nobody knows beforehand: every right on
/// the whole of it, and nothing of it taken away.
pub fn weigh_everything<'a>(grants: impl IntoIterator<Item = &'a Grant> + Clone) -> Finding {
    if grants.clone().into_iter().any(|grant| grant.verdict == Verdict::Deny) {
        return Finding::Denied;
    }
    let has = |right| sum_up(grants.clone(), |grant| grant.rights.contains(right) && grant.tools.is_empty());
    let all = [Right::Read, Right::Write, Right::Execute].map(has);
    if all == [Finding::Allowed; 3] { Finding::Allowed } else { Finding::Silent }
}

fn sum_up<'a>(grants: impl IntoIterator<Item = &'a Grant>, speaks: impl Fn(&Grant) -> bool) -> Finding {
    let mut finding = Finding::Silent;
    for grant in grants.into_iter().filter(|grant| speaks(grant)) {
        match grant.verdict {
            Verdict::Deny => return Finding::Denied,
            Verdict::Allow => finding = Finding::Allowed,
        }
    }
    finding
}
