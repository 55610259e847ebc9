//! The token that readers of the status show. It is compared in constant time; where the plan names none, nobody
//! is let in.

use super::fault::Fault;
use crate::house::House;
use lifeboat_base::Secret;

/// The token, or why there is none.
#[derive(Clone, Debug)]
pub(crate) struct Token(Result<Secret, String>);

impl Token {
    /// What the plan names.
    pub(crate) fn of(house: &House) -> Self {
        let named = house.plan.serve.as_ref().and_then(|serve| serve.token.as_ref());
        let read = |reference| house.means.secret(reference).map_err(|trouble| trouble.message);
        Self(named.map_or_else(|| Err("the plan names no token in serve.token".to_owned()), read))
    }

    #[cfg(test)]
    pub(crate) fn is(text: &str) -> Self {
        Self(Ok(Secret::new(text.as_bytes().to_vec())))
    }

    /// Lets in whoever shows the token.
    ///
    /// # Errors
    /// Where there is no token, or another one is shown.
    pub(crate) fn admit(&self, authorization: Option<&[u8]>) -> Result<(), Fault> {
        let token = self.0.as_ref().map_err(|why| Fault::TokenUnset { why: why.clone() })?;
        let shown = authorization.and_then(bearer).ok_or(Fault::NoToken)?;
        if Secret::new(shown.to_vec()) == *token { Ok(()) } else { Err(Fault::NoToken) }
    }
}

/// What follows the word `Bearer`, whose case does not matter (RFC 9110, 11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(7)?;
    let token = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let token = Token::is("a-token");
        for good in ["Bearer a-token", "bearer a-token", "BEARER  a-token "] {
            assert_eq!(token.admit(Some(good.as_bytes())), Ok(()), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Bearer a-toke", "Bearer a-tokens", "Basic a-token", "a-token"] {
            assert_eq!(token.admit(Some(bad.as_bytes())), Err(Fault::NoToken), "{bad}");
        }
        assert_eq!(token.admit(None), Err(Fault::NoToken));
    }

    #[test]
    fn without_a_token_nobody_is_let_in() {
        let token = Token(Err("the plan names no token in serve.token".to_owned()));
        assert!(matches!(token.admit(Some(b"Bearer ")), Err(Fault::TokenUnset { .. })));
        assert_eq!(token.admit(None).unwrap_err().status(), 503);
    }
}
