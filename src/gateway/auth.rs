//! Who is it?

use crate::config::Key;
use crate::error::{Error, ErrorKind, Result};
use crate::id::UserId;
use crate::query::Lane;

/// Who may enter over HTTP. Without keys everybody may: the door is on loopback then.
pub struct Auth<'a>(&'a [Key]);

/// Somebody who entered.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Who it is, as far as the door can tell.
    pub user: UserId,
    /// Whether that is proven, by a key or by the kernel. Otherwise the request's own `user` field may refine it.
    pub proven: bool,
    /// The most urgent lane it may use.
    pub lane: Option<Lane>,
    /// Whether it may see what others do: status and metrics.
    pub admin: bool,
}

/// How keys begin, so that a leaked one is recognised.
pub const KEY_PREFIX: &str = "qk-";

/// The hash under which the configuration holds a key.
pub fn hash(key: &str) -> String {
    format!("blake3:{}", blake3::hash(key.as_bytes()).to_hex())
}

impl<'a> Auth<'a> {
    /// With these keys.
    pub fn new(keys: &'a [Key]) -> Self {
        Self(keys)
    }

    /// Whether anybody must show a key.
    pub fn asks_for_keys(&self) -> bool {
        !self.0.is_empty()
    }

    /// Who shows this `Authorization` header, coming from `address`.
    ///
    /// # Errors
    /// [`Auth`](ErrorKind::Auth) when keys are asked for and none or a wrong one is shown.
    pub fn http(&self, authorization: Option<&str>, address: &UserId) -> Result<Caller> {
        if self.0.is_empty() {
            return Ok(Caller {
                user: address.clone(),
                proven: false,
                lane: None,
                admin: true,
            });
        }
        let shown = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim());
        let refused = |message| Err(Error::new(ErrorKind::Auth, message));
        let Some(shown) = shown else {
            return refused("an API key is required: send 'Authorization: Bearer <key>'");
        };
        // What is compared is a hash of high-entropy keys, so its timing tells nothing of a key.
        let shown = hash(shown);
        match self.0.iter().find(|key| key.hash == shown) {
            Some(key) => Ok(Caller {
                user: key.user.as_str().into(),
                proven: true,
                lane: key.lane,
                admin: key.admin,
            }),
            None => refused("this API key is not known"),
        }
    }
}

impl Caller {
    /// Somebody on the socket: the kernel says who.
    pub fn peer(uid: u32) -> Self {
        Self {
            user: format!("uid:{uid}").into(),
            proven: true,
            lane: None,
            admin: true,
        }
    }

    /// Whether it may see what others do.
    ///
    /// # Errors
    /// [`Forbidden`](ErrorKind::Forbidden) if not.
    pub fn check_admin(&self) -> Result<()> {
        if self.admin {
            return Ok(());
        }
        let message = "this needs a key with admin = true";
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    /// The user a query runs as, given the request's own advisory `user`.
    pub fn user(&self, advisory: Option<&str>) -> UserId {
        match advisory {
            Some(user) if !self.proven && !user.is_empty() => user.into(),
            _ => self.user.clone(),
        }
    }

    /// Whether it may use `lane`.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the lanes it may use.
    pub fn check_lane(&self, lane: Lane) -> Result<()> {
        match self.lane {
            Some(highest) if (lane as usize) < (highest as usize) => {
                let allowed: Vec<&str> = Lane::ALL
                    .into_iter()
                    .skip(highest as usize)
                    .map(Lane::name)
                    .collect();
                let message = format!(
                    "lane {} is above this key's: {}",
                    lane.name(),
                    allowed.join(" or ")
                );
                Err(Error::invalid("quorate.lane", message))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the door makes of somebody who shows this to a door with one key.
    fn shown(authorization: Option<&str>) -> Result<Caller> {
        let key = Key {
            user: "alice".into(),
            hash: hash("qk-secret"),
            lane: Some(Lane::Normal),
            admin: false,
        };
        Auth::new(&[key]).http(authorization, &"127.0.0.1".into())
    }

    #[test]
    fn a_key_outranks_the_user_field() {
        let caller = shown(Some("Bearer qk-secret")).unwrap();
        assert_eq!(caller.user(Some("mallory")).as_str(), "alice");
    }

    #[test]
    fn without_keys_the_user_field_refines_the_address() {
        let caller = Auth::new(&[]).http(None, &"127.0.0.1".into()).unwrap();
        assert_eq!(caller.user(Some("bob")).as_str(), "bob");
        assert_eq!(caller.user(None).as_str(), "127.0.0.1");
    }

    #[test]
    fn a_wrong_or_missing_key_is_refused() {
        for value in [
            None,
            Some("Bearer qk-wrong"),
            Some("Basic qk-secret"),
            Some("qk-secret"),
        ] {
            assert_eq!(
                shown(value).unwrap_err().kind(),
                ErrorKind::Auth,
                "{value:?}"
            );
        }
    }

    #[test]
    fn only_an_admins_key_sees_what_others_do() {
        let caller = shown(Some("Bearer qk-secret")).unwrap();
        let refused = caller.check_admin().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden);
        assert!(Caller::peer(1000).check_admin().is_ok());
    }

    #[test]
    fn a_lane_above_the_keys_own_is_refused() {
        let caller = shown(Some("bearer qk-secret")).unwrap();
        assert!(caller.check_lane(Lane::Urgent).is_err());
        assert!(caller.check_lane(Lane::Normal).is_ok());
        assert!(caller.check_lane(Lane::Batch).is_ok());
    }
}
