//! The query of a request: a pure parser.

use std::borrow::Cow;

use crate::percent::{BadEscape, decode};

/// The parameters of a request, decoded, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// What is wrong with a query.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// A name or value that cannot be decoded.
    #[error("query: {0}")]
    Escape(#[from] BadEscape),
    /// A parameter that must have one value has several.
    #[error("query parameter {0:?} is given more than once")]
    Repeated(&'static str),
    /// A parameter that must be a count is none.
    #[error("query parameter {name:?} is {found:?}, expected a number from 0 on")]
    Number {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: String,
    },
}

impl<'a> Query<'a> {
    /// Parses what stands behind the `?`.
    pub(crate) fn parse(text: Option<&'a str>) -> Result<Self, QueryError> {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, QueryError>>()?))
    }

    /// Every value of a parameter, in order.
    pub(crate) fn all<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<&str>, QueryError> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(QueryError::Repeated(name)),
            None => Ok(first),
        }
    }

    /// A count, such as `n`. One that is too large to be written down is the largest there is.
    pub(crate) fn count(&self, name: &'static str) -> Result<Option<usize>, QueryError> {
        let Some(text) = self.one(name)? else {
            return Ok(None);
        };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            let found = text.chars().take(64).collect();
            return Err(QueryError::Number { name, found });
        }
        Ok(Some(text.parse().unwrap_or(usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::percent::encode;
    use proptest::prelude::*;

    #[test]
    fn parameters() {
        let query = Query::parse(Some("tag=1.2&tag=1&digest=sha256%3Aab&flag&&n=0")).unwrap();
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["1.2", "1"]);
        assert_eq!(query.one("digest"), Ok(Some("sha256:ab")));
        assert_eq!(query.one("flag"), Ok(Some("")));
        assert_eq!(query.one("absent"), Ok(None));
        assert_eq!(query.one("tag"), Err(QueryError::Repeated("tag")));
        assert_eq!(query.count("n"), Ok(Some(0)));
        assert_eq!(Query::parse(None), Ok(Query::default()));
        assert!(Query::parse(Some("a=%zz")).is_err());
    }

    #[test]
    fn counts() {
        let count = |text: &str| Query::parse(Some(text)).unwrap().count("n");
        assert_eq!(count("n=12"), Ok(Some(12)));
        assert_eq!(count("n=99999999999999999999999999"), Ok(Some(usize::MAX)));
        assert_eq!(count("m=12"), Ok(None));
        for bad in ["n=", "n=-1", "n=+1", "n=1.5", "n=x", "n=1&n=2"] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in prop::collection::vec(("[a-z]{1,4}", "\\PC{0,8}"), 0..6)) {
            let mut text = String::new();
            for (name, value) in &pairs {
                text.push('&');
                encode(&mut text, name);
                text.push('=');
                encode(&mut text, value);
            }
            let query = Query::parse(Some(&text)).unwrap();
            for (name, _) in &pairs {
                let expected: Vec<_> = pairs.iter().filter(|p| p.0 == *name).map(|p| p.1.as_str()).collect();
                prop_assert_eq!(query.all(name).collect::<Vec<_>>(), expected);
            }
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            if let Ok(query) = Query::parse(Some(&text)) {
                let _ = query.count("n");
            }
        }
    }
}
