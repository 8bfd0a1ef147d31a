//! What a token is asked for: scopes only grow, as each new authorization replaces the one before.

use mcphub_upstream::Challenge;

use super::account::{Account, Registered};
use super::bounded::few;
use super::discovery::Found;

/// Names the scope that lets a token be renewed without the person (OpenID Connect Core 11).
pub(super) const OFFLINE: &str = "offline_access";

/// Is what there is to choose from.
pub(super) struct Choice<'a> {
    /// What the definition says.
    pub(super) own: &'a [String],
    /// What the server wanted when it refused.
    pub(super) challenge: Option<&'a Challenge>,
    /// What the server and its authorization server know.
    pub(super) found: &'a Found,
    /// As whom the hub asks.
    pub(super) client: &'a Registered,
    /// The account that she has.
    pub(super) before: Option<&'a Account>,
}

impl Choice<'_> {
    /// Chooses what to ask for: what the definition says, else what the server wants, else what it knows, else nothing; beside it
    /// what the same client was given before, and what the server wants of a token that was good for too little.
    pub(super) fn scopes(&self) -> Vec<String> {
        let mut chosen: Vec<String> = self.had().to_vec();
        let wanted = || self.challenge.into_iter().flat_map(Challenge::scopes).map(str::to_owned);
        match wanted().next() {
            _ if !self.own.is_empty() => chosen.extend_from_slice(self.own),
            Some(_) => {}
            None => chosen.extend_from_slice(&self.found.scopes_supported),
        }
        if self.own.is_empty() || self.challenge.is_some_and(Challenge::wants_more) {
            chosen.extend(wanted());
        }
        let knows_offline = self.found.authority.scopes_supported.iter().any(|scope| scope == OFFLINE);
        // Asked for first, so that no bound leaves it out.
        let offline = (knows_offline && !chosen.is_empty()).then(|| OFFLINE.to_owned());
        few(offline.into_iter().chain(chosen))
    }

    /// Lists what she gave the same client at the same authorization server.
    fn had(&self) -> &[String] {
        let is_same = |before: &&Account| {
            before.issuer == self.found.authority.issuer && before.client.id == self.client.id
        };
        self.before.filter(is_same).map_or(&[], |before| &before.scopes)
    }
}

#[cfg(test)]
mod tests {
    use mcphub_upstream::Challenge;

    use super::Choice;
    use crate::accounts::account::{Account, Registered};
    use crate::accounts::discovery::Found;
    use crate::accounts::metadata::Authority;

    fn strings(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn authority(issuer: &str) -> Authority {
        Authority::assumed(&issuer.parse().unwrap()).unwrap()
    }

    /// Asks as `client` at one authorization server, after `before` was given to `known` at another.
    fn asked(own: &str, wanted: Option<(&str, &str)>, known: &str, before: (&str, &str, &str)) -> String {
        let (issuer, client, scopes) = before;
        let mut found = authority("https://a.example");
        found.scopes_supported = strings(known).into_iter().filter(|scope| scope == super::OFFLINE).collect();
        let scopes_supported = strings(known).into_iter().filter(|scope| scope != super::OFFLINE).collect();
        let found = Found { resource: String::new(), scopes_supported, authority: found };
        let challenge = wanted.map(|(error, scope)| Challenge {
            error: Some(error.to_owned()),
            scope: Some(scope.to_owned()),
            resource_metadata: None,
        });
        let before =
            Account::begin(&authority(issuer), String::new(), Registered::known(client), strings(scopes));
        let choice = Choice {
            own: &strings(own),
            challenge: challenge.as_ref(),
            found: &found,
            client: &Registered::known("i"),
            before: Some(&before),
        };
        choice.scopes().join(" ")
    }

    #[test]
    fn what_is_asked_for_follows_the_server_and_only_grows() {
        let had = |scopes| ("https://a.example", "i", scopes);
        let (ended, too_little) =
            (|scope| Some(("invalid_token", scope)), |scope| Some(("insufficient_scope", scope)));
        assert_eq!(asked("", None, "", had("")), "");
        assert_eq!(asked("", None, "a b", had("")), "a b");
        assert_eq!(asked("", ended("c"), "a b", had("")), "c");
        assert_eq!(asked("d", ended("c"), "a", had("")), "d");
        assert_eq!(asked("d", too_little("c"), "a", had("")), "d c");
        assert_eq!(asked("", None, "a offline_access", had("")), "offline_access a");
        assert_eq!(asked("", None, "offline_access", had("")), "");
        assert_eq!(asked("", None, "", had("z")), "z");
        assert_eq!(asked("", None, "a b", had("z")), "z a b");
        assert_eq!(asked("", ended("c"), "a b", had("z")), "z c");
        assert_eq!(asked("", too_little("c"), "a b", had("z c")), "z c");
        assert_eq!(asked("d", ended("c"), "a", had("z d")), "z d");
    }

    #[test]
    fn what_another_client_had_is_not_asked_for() {
        for (issuer, client) in [("https://b.example", "i"), ("https://a.example", "j")] {
            assert_eq!(asked("", Some(("insufficient_scope", "c")), "", (issuer, client, "z")), "c");
        }
    }
}
