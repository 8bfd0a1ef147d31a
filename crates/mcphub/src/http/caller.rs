//! Who calls: a hub key, in a header and nowhere else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use http::request::Parts;
use http::{StatusCode, Uri};
use mcphub_domain::audit::Refusal;
use mcphub_domain::{KeyText, Quota, Timestamp};
use mcphub_hub::{Caller, HubError, Meter};
use parking_lot::Mutex;
use tokio::time::Instant;
use url::form_urlencoded;

use crate::http::error::ApiError;
use crate::http::peer::ClientAddress;
use crate::http::{AppState, account, peer};

/// The header that takes a hub key where `Authorization` is taken already.
pub(crate) const KEY_HEADER: HeaderName = HeaderName::from_static("x-mcphub-key");

/// Proves who calls: a handler that takes it can't run without.
pub(crate) struct Authenticated(pub(crate) Caller);

/// How many failed authentications an address may have in a minute.
const FAILURES_PER_MINUTE: u32 = 60;
/// How many networks are counted at the same time; more share one place.
const NETWORKS: usize = 10_000;
/// What every hub key begins with.
const KEY_PREFIX: &str = "mcphub_";

/// Counts failed authentications by network. Who authenticates is never charged, so one broken
/// client locks nobody else out.
pub(super) struct Failures {
    start: Instant,
    networks: Mutex<HashMap<Network, Meter>>,
}

/// Is an IPv4 address, or the /64 of an IPv6 address, or all that found no place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 4]),
    V6([u16; 4]),
    Others,
}

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => Ok(Self(caller.clone())),
            None => authenticate(state, parts).await.map(Self),
        }
    }
}

/// Authenticates whoever sent the headers.
pub(super) async fn authenticate(state: &AppState, parts: &Parts) -> Result<Caller, ApiError> {
    let Some(ClientAddress(address)) = parts.extensions.get().copied() else {
        return Err(ApiError::internal("a request came without its address"));
    };
    let key = match shown_key(&parts.headers) {
        Ok(key) => key,
        Err(error) => {
            Box::pin(state.hub.record_stranger(Refusal::Malformed, address)).await;
            return Err(state.edge.failures.charge(address).err().unwrap_or(error));
        }
    };
    let caller = state.hub.authenticate(key, address).await;
    let caller = caller.map_err(|error| state.edge.failures.weigh(error, address))?;
    account::note(parts, &caller);
    if let (Some(connection), Some(person)) = (peer::connection(parts), caller.principal().user()) {
        connection.seat.belongs_to(person);
    }
    Ok(caller)
}

/// Refuses a key that stands in the URL, where logs and histories keep it.
pub(super) async fn refuse_key_in_url(state: &AppState, uri: &Uri, address: IpAddr) -> Result<(), ApiError> {
    let Some(key) = key_in_url(uri) else { return Ok(()) };
    let error = Box::pin(state.hub.refuse_exposed(&key, address)).await;
    Err(state.edge.failures.weigh(error, address))
}

/// Finds the one key that the headers show.
fn shown_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut shown: Vec<&str> = Vec::new();
    for (name, scheme) in [(AUTHORIZATION, "Bearer "), (KEY_HEADER, "")] {
        let mut values = headers.get_all(name).into_iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(two_credentials());
        }
        // What is no text, or of another scheme, is shown as it is, and found to be no key.
        let text = first.map(|value| value.to_str().unwrap_or_default());
        shown.extend(text.map(|text| after_scheme(text, scheme)));
    }
    match shown.as_slice() {
        [] => Ok(None),
        [key] => Ok(Some(key)),
        [one, other] if one == other => Ok(Some(one)),
        _ => Err(two_credentials()),
    }
}

/// Takes the scheme away, whose letters may be of either case (RFC 9110 11.1).
fn after_scheme<'a>(text: &'a str, scheme: &str) -> &'a str {
    match text.split_at_checked(scheme.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(scheme) => rest.trim(),
        _ => text,
    }
}

fn two_credentials() -> ApiError {
    let detail = "two credentials: send one key, in Authorization or in X-MCPHub-Key";
    ApiError::new(StatusCode::BAD_REQUEST, "key.ambiguous", detail)
}

/// Finds a text of a key's form and length anywhere in the path or the query, decoded.
fn key_in_url(uri: &Uri) -> Option<String> {
    let whole = uri.path_and_query()?.as_str();
    if !whole.contains(KEY_PREFIX) && !whole.contains('%') {
        return None;
    }
    let path = uri.path().split('/');
    let query = uri.query().unwrap_or_default().split('&');
    path.chain(query)
        .flat_map(|part| form_urlencoded::parse(part.as_bytes()))
        .flat_map(|(name, value)| [name, value])
        .find_map(|text| key_in(&text))
}

fn key_in(text: &str) -> Option<String> {
    text.match_indices(KEY_PREFIX)
        .filter_map(|(start, _)| text.get(start..start + KeyText::LENGTH))
        .find(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .map(str::to_owned)
}

impl Default for Failures {
    fn default() -> Self {
        Self { start: Instant::now(), networks: Mutex::default() }
    }
}

impl Failures {
    /// Charges a refusal that is a failed authentication; too many become another refusal.
    fn weigh(&self, error: HubError, address: IpAddr) -> ApiError {
        match error {
            HubError::Unauthenticated(_) => self.charge(address).err().unwrap_or_else(|| error.into()),
            other => other.into(),
        }
    }

    fn charge(&self, address: IpAddr) -> Result<(), ApiError> {
        let micros = i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.charge_at(address, Timestamp::from_micros(micros)).map_err(ApiError::too_many)
    }

    fn charge_at(&self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let Ok(quota) = Quota::new(FAILURES_PER_MINUTE, 1) else { return Ok(()) };
        let mut networks = self.networks.lock();
        if networks.len() >= NETWORKS {
            networks.retain(|_, meter| !meter.is_idle(now));
        }
        let known = networks.len() < NETWORKS || networks.contains_key(&Network::of(address));
        let network = if known { Network::of(address) } else { Network::Others };
        networks.entry(network).or_default().charge(quota, now)
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mcphub_domain::Entropy;

    use super::{
        AUTHORIZATION, Failures, HeaderMap, KEY_HEADER, KeyText, NETWORKS, Timestamp, Uri, key_in_url,
        shown_key,
    };

    fn shown(lines: &[(&http::HeaderName, &str)]) -> Result<Option<String>, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        shown_key(&headers).map(|key| key.map(str::to_owned)).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn one_credential_comes_in_one_of_two_headers() {
        let (bearer, key) = (&AUTHORIZATION, &KEY_HEADER);
        assert_eq!(shown(&[]), Ok(None));
        assert_eq!(shown(&[(bearer, "Bearer a")]), Ok(Some("a".to_owned())));
        assert_eq!(shown(&[(bearer, "bEARER a")]), Ok(Some("a".to_owned())));
        assert_eq!(shown(&[(key, "a")]), Ok(Some("a".to_owned())));
        assert_eq!(shown(&[(bearer, "Bearer a"), (key, "a")]), Ok(Some("a".to_owned())));
        assert_eq!(shown(&[(bearer, "Bearer a"), (key, "b")]), Err(400));
        assert_eq!(shown(&[(bearer, "Bearer a"), (bearer, "Bearer a")]), Err(400));
        assert_eq!(shown(&[(key, "a"), (key, "b")]), Err(400));
        assert_eq!(shown(&[(bearer, "Basic a")]), Ok(Some("Basic a".to_owned())));
    }

    #[test]
    fn a_key_is_found_wherever_it_stands_in_a_url() {
        let key = KeyText::random(&Entropy::fixed(1)).reveal().to_string();
        let encoded = key.replacen('m', "%6D", 1).replacen('_', "%5f", 1);
        for url in [
            format!("/mcp?key={key}"),
            format!("/mcp?{key}"),
            format!("/mcp?{key}=1"),
            format!("/mcp?a=1&authorization=Bearer%20{key}"),
            format!("/mcp?a=1&authorization=Bearer+{key}&b"),
            format!("/mcp/{key}"),
            format!("/mcp/{key}/x?y=1"),
            format!("/mcp?key={encoded}"),
            format!("/mcp/{encoded}"),
        ] {
            assert_eq!(key_in_url(&url.parse().unwrap()), Some(key.clone()), "{url}");
        }
        let short: String = key.chars().take(KeyText::LENGTH - 1).collect();
        for url in ["/mcp".to_owned(), "/mcp/mcphub_x?y=mcphub_z".to_owned(), format!("/mcp?key={short}")] {
            assert_eq!(key_in_url(&url.parse::<Uri>().unwrap()), None, "{url}");
        }
    }

    #[test]
    fn an_address_fails_sixty_times_a_minute_and_delays_no_other() {
        let (failures, now) = (Failures::default(), Timestamp::from_micros(1));
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!((0..100).filter(|_| failures.charge_at(address, now).is_ok()).count(), 60);
        assert!(failures.charge_at("192.0.2.2".parse().unwrap(), now).is_ok());
    }

    #[test]
    fn failures_from_everywhere_are_bounded() {
        let (failures, now) = (Failures::default(), Timestamp::from_micros(1));
        for number in 0..NETWORKS as u32 + 100 {
            failures.charge_at(Ipv4Addr::from(number).into(), now).ok();
        }
        assert_eq!(failures.networks.lock().len(), NETWORKS + 1);
    }
}
