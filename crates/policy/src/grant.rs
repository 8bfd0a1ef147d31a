//! The rule of grants: default deny, explicit deny beats allow, rights don't imply each other.

use mcphub_domain::{Grant, Tool, Verdict};

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
    let mut finding = Finding::Silent;
    for grant in grants {
        if !grant.rights.contains(right) || !grant.covers(&tool.name) {
            continue;
        }
        match grant.verdict {
            Verdict::Deny => return Finding::Denied,
            Verdict::Allow => finding = Finding::Allowed,
        }
    }
    finding
}
