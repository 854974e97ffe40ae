//! Platforms (image-spec, `image-index.md`): what an image runs on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Extra;
use crate::serialisation::{is_blank, null_as_default};
use crate::text::{Reason, parse_error};

/// Longest text form, in bytes.
const MAX_LENGTH: usize = 255;

/// An operating system and a processor architecture, in Go's names.
///
/// The text form is `os[(version)]/architecture[/variant]`; it leaves out features and unknown fields.
///
/// ```
/// # use oci_spec_types::Platform;
/// let platform: Platform = "linux/aarch64".parse()?;
/// assert_eq!(platform.normalized().to_string(), "linux/arm64");
/// # Ok::<(), oci_spec_types::PlatformError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The processor architecture.
    pub architecture: String,
    /// The operating system.
    pub os: String,
    /// The version of the operating system.
    #[serde(default, rename = "os.version", skip_serializing_if = "is_blank")]
    pub os_version: Option<String>,
    /// Features of the operating system that are needed.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the processor, as `v7`.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub variant: Option<String>,
    /// Features of the processor that are needed (Docker manifest lists).
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Fields that the specification does not define.
    #[serde(flatten)]
    pub extra: Extra,
}

parse_error! {
    /// A text that is not a platform.
    PlatformError, "platform"
}

impl Platform {
    /// A platform of an operating system and an architecture.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self {
            architecture: architecture.into(),
            os: os.into(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
            features: Vec::new(),
            extra: Extra::new(),
        }
    }

    /// The same platform in the names that images use, so that two can be compared: lower-case; `macos` is
    /// `darwin`; `aarch64` is `arm64`, `x86_64` is `amd64`, `i386` is `386`, `armhf` is `arm/v7`, `armel` is `arm/v6`,
    /// `arm` is `arm/v7`; `arm64/v8` and `amd64/v1` lose their variant.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let lower =
            |text: &Option<String>| text.as_deref().unwrap_or_default().to_ascii_lowercase();
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = lower(&self.variant);
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
            ("aarch64", other) => ("arm64", other),
            ("x86_64" | "x86-64" | "amd64", "" | "1" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", other) => ("amd64", other),
            ("i386", _) => ("386", ""),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            unchanged => unchanged,
        };
        Self {
            architecture: architecture.to_owned(),
            os,
            variant: Some(variant.to_owned()).filter(|variant| !variant.is_empty()),
            os_version: self.os_version.clone().filter(|version| !version.is_empty()),
            ..self.clone()
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if let Some(version) = self.os_version.as_deref().filter(|version| !version.is_empty()) {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
        if let Some(variant) = self.variant.as_deref().filter(|variant| !variant.is_empty()) {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(input: &str) -> Result<Self, PlatformError> {
        parse(input).map_err(|reason| PlatformError::new(input, reason))
    }
}

fn parse(input: &str) -> Result<Platform, Reason> {
    Reason::check_length(input, MAX_LENGTH)?;
    let mut rest = Rest { input, at: 0 };
    let os = rest.word()?;
    let version = if rest.skip('(') {
        let version = rest.word()?;
        if !rest.skip(')') {
            return Err(rest.expected(
                "a letter, digit, '.', '_', '-' or the closing parenthesis of the version",
            ));
        }
        Some(version.to_owned())
    } else {
        None
    };
    if !rest.skip('/') {
        return Err(rest.expected("'/' and an architecture, as in linux/amd64"));
    }
    let architecture = rest.word()?;
    let variant = if rest.skip('/') { Some(rest.word()?.to_owned()) } else { None };
    if rest.at < input.len() {
        return Err(rest.expected("the end"));
    }
    Ok(Platform { os_version: version, variant, ..Platform::new(os, architecture) })
}

/// What is left to read of a platform's text.
struct Rest<'a> {
    input: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn word(&mut self) -> Result<&'a str, Reason> {
        let rest = &self.input[self.at..];
        let allowed =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let length = rest.bytes().take_while(allowed).count();
        if length == 0 {
            return Err(self.expected("a letter, digit, '.', '_' or '-'"));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn skip(&mut self, mark: char) -> bool {
        let found = self.input[self.at..].starts_with(mark);
        self.at += if found { mark.len_utf8() } else { 0 };
        found
    }

    fn expected(&self, what: &'static str) -> Reason {
        Reason::at(self.input, self.at, what)
    }
}
