//! Where the values that people fill in go: a value is sealed for its place, and goes nowhere else.

use crate::secret::Destination;
use crate::server::{HttpTarget, ServerDefinition, Transport};
use crate::template::{Slot, Template};

impl ServerDefinition {
    /// Names where this server's credentials go: the URL's origin, or the command, its
    /// arguments and its environment, which can lead a program to load another's code.
    pub fn destination(&self) -> Destination {
        match &self.transport {
            Transport::Http(target) => {
                let origin = target.base().map(|url| url.origin().ascii_serialization());
                Destination::digest(["http", origin.as_deref().unwrap_or("")])
            }
            Transport::Stdio(target) => {
                let args: Vec<String> = target.args.iter().map(ToString::to_string).collect();
                let env = target.env.iter().map(|(name, value)| format!("{name}={value}"));
                let args: Vec<String> = args.into_iter().chain(["env".to_owned()]).chain(env).collect();
                Destination::digest(
                    ["stdio", target.command.as_str()].into_iter().chain(args.iter().map(String::as_str)),
                )
            }
        }
    }

    /// Says in words where this server's credentials go: everything that the destination is made of.
    pub fn describe_destination(&self) -> String {
        match &self.transport {
            Transport::Http(target) => target
                .base()
                .map_or_else(|_| target.url.to_string(), |url| url.origin().ascii_serialization()),
            Transport::Stdio(target) => {
                let env = target.env.iter().map(|(name, value)| word(&format!("{name}={value}")));
                let args = target.args.iter().map(|arg| word(&arg.to_string()));
                env.chain([word(&target.command)]).chain(args).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Names where the value of a slot goes. An account is good for the path that it was asked for, not for its neighbours;
    /// the secret of the hub's id goes to the authorization server.
    pub fn destination_of(&self, slot: &Slot) -> Destination {
        match &self.transport {
            Transport::Http(target) if slot.is_account() => {
                let url = target.base();
                let (origin, path) = url.as_ref().map_or_else(
                    |_| (String::new(), ""),
                    |url| (url.origin().ascii_serialization(), url.path().trim_end_matches('/')),
                );
                Destination::digest(["account", origin.as_str(), path])
            }
            Transport::Http(target) => match target.issuer_for(slot) {
                Some(issuer) if target.sends(slot) => {
                    Destination::digest(["oauth", issuer, self.describe_destination().as_str()])
                }
                Some(issuer) => Destination::digest(["oauth", issuer]),
                None => self.destination(),
            },
            Transport::Stdio(_) => self.destination(),
        }
    }

    /// Says in words where the value of a slot goes.
    pub fn describe_destination_of(&self, slot: &Slot) -> String {
        let server = self.describe_destination();
        match &self.transport {
            Transport::Http(target) if slot.is_account() => target
                .base()
                .map_or(server.clone(), |url| format!("{server}{}", url.path().trim_end_matches('/'))),
            Transport::Http(target) => match target.issuer_for(slot) {
                Some(issuer) if target.sends(slot) => format!("{issuer} and {server}"),
                Some(issuer) => issuer.to_owned(),
                None => server,
            },
            Transport::Stdio(_) => server,
        }
    }
}

impl HttpTarget {
    /// Names the authorization server that a slot's value is for: the secret of the hub's id there.
    fn issuer_for(&self, slot: &Slot) -> Option<&str> {
        let oauth = self.oauth.as_ref()?;
        let is_secret = oauth.secret_slot().is_some_and(|secret| secret == *slot);
        oauth.issuer.as_deref().filter(|_| is_secret)
    }

    /// Says whether a slot's value goes to the server itself.
    fn sends(&self, slot: &Slot) -> bool {
        let mut templates = std::iter::once(&self.url).chain(self.headers.values());
        templates.any(|template: &Template| template.slots().contains(slot))
    }
}

/// Shows a word of a command so that nobody takes it for two, or for another.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@+,${}%^~".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use crate::server::ServerDefinition;
    use crate::template::Slot;

    fn parse(json: &str) -> ServerDefinition {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_account_stays_on_its_path() {
        let at = |url: &str| {
            parse(&format!(r#"{{"type":"streamable-http","url":"{url}","oauth":{{}}}}"#))
                .destination_of(&Slot::account())
        };
        let github = at("https://gw.example/github/mcp");
        assert_eq!(github, at("https://gw.example/github/mcp?x"));
        assert_eq!(github, at("https://gw.example:443/github/mcp/"));
        for other in
            ["https://gw.example/jira/mcp", "https://b.example/github/mcp", "https://gw.example/github"]
        {
            assert_ne!(github, at(other), "{other}");
        }
        let definition =
            parse(r#"{"type":"streamable-http","url":"https://gw.example/github/mcp","oauth":{}}"#);
        assert_ne!(github, definition.destination());
        assert_eq!(definition.describe_destination_of(&Slot::account()), "https://gw.example/github/mcp");
    }

    #[test]
    fn the_secret_of_the_hubs_id_goes_to_its_issuer() {
        let with = |issuer: &str, header: &str| {
            parse(&format!(
                r#"{{"type":"streamable-http","url":"https://a.example/mcp","headers":{{{header}}},
                     "oauth":{{"issuer":"{issuer}","clientId":"c","clientSecret":"${{SHARED_S}}"}}}}"#
            ))
        };
        let one = with("https://login.example", "");
        let secret = one.oauth().unwrap().secret_slot().unwrap();
        assert_eq!(one.describe_destination_of(&secret), "https://login.example");
        assert_ne!(one.destination_of(&secret), with("https://evil.example", "").destination_of(&secret));
        assert_ne!(one.destination_of(&secret), one.destination());
        let both = with("https://login.example", r#""x-s":"${SHARED_S}""#);
        assert_eq!(both.describe_destination_of(&secret), "https://login.example and https://a.example");
        assert_ne!(both.destination_of(&secret), one.destination_of(&secret));
    }

    #[test]
    fn the_destination_is_the_origin_or_the_command_line() {
        let at = |json: &str| parse(json).destination();
        let http = |url: &str| at(&format!(r#"{{"type":"streamable-http","url":"{url}"}}"#));
        assert_eq!(http("https://a.example/one"), http("https://a.example:443/two?x"));
        assert_ne!(http("https://a.example/"), http("https://b.example/"));
        assert_ne!(http("https://a.example/"), http("http://a.example/"));
        let stdio = |args: &str| at(&format!(r#"{{"type":"stdio","command":"x","args":{args}}}"#));
        assert_ne!(stdio(r#"["a","b"]"#), stdio(r#"["a b"]"#));
        let with = |env: &str| at(&format!(r#"{{"type":"stdio","command":"x","env":{env}}}"#));
        assert_ne!(with("{}"), with(r#"{"PATH":"/tmp/other"}"#));
    }

    #[test]
    fn a_destination_is_described_by_all_that_it_is_made_of() {
        let http = parse(r#"{"type":"streamable-http","url":"https://a.example:8443/one/${USER_X}?y"}"#);
        assert_eq!(http.describe_destination(), "https://a.example:8443");
        let stdio = parse(
            r#"{"type":"stdio","command":"npx","args":["-y","a b","c\u202ed"],"env":{"T":"${USER_T}","LOG":"x"}}"#,
        );
        assert_eq!(stdio.describe_destination(), r#"LOG=x T=${USER_T} npx -y "a b" "c\u{202e}d""#);
    }
}
