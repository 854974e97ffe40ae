//! `manifest.json`: the images in an archive, each with its names and where its config and its layers lie. No I/O.

use serde_json::{Value, json};

/// The name of the file.
pub(super) const MANIFEST_JSON: &str = "manifest.json";

/// An image in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// The path of its config.
    pub(super) config: String,
    /// Its names, as `name:tag`.
    pub(super) names: Vec<String>,
    /// The paths of its layers, the lowest first.
    pub(super) layers: Vec<String>,
}

/// Reads the file. The error is a sentence about it.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Item>, String> {
    let items: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Value::Array(items) = items else { return Err("it is not a list of images".into()) };
    let parse = |(position, item): (usize, Value)| {
        let texts = |field: &str| match item.get(field) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(texts)) => texts
                .iter()
                .map(|text| text.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| format!("[{position}].{field} is not a list of texts")),
            Some(_) => Err(format!("[{position}].{field} is not a list of texts")),
        };
        let config = item.get("Config").and_then(Value::as_str);
        Ok(Item {
            config: config.ok_or_else(|| format!("[{position}].Config is not a text"))?.to_owned(),
            names: texts("RepoTags")?,
            layers: texts("Layers")?,
        })
    };
    items.into_iter().enumerate().map(parse).collect()
}

/// Writes the file.
pub(super) fn to_bytes(items: &[Item]) -> Vec<u8> {
    let items: Vec<Value> = items
        .iter()
        .map(|Item { config, names, layers }| {
            json!({ "Config": config, "RepoTags": names, "Layers": layers })
        })
        .collect();
    Value::Array(items).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: C14
    #[test]
    fn what_is_read() {
        let item = Item {
            config: "c.json".into(),
            names: vec!["a:1".into(), "b:2".into()],
            layers: vec!["x/layer.tar".into()],
        };
        assert_eq!(parse(&to_bytes(std::slice::from_ref(&item))), Ok(vec![item]));
        let text = r#"[{"Config":"c","RepoTags":null,"Parent":"p","LayerSources":{}}]"#;
        assert_eq!(
            parse(text.as_bytes()),
            Ok(vec![Item { config: "c".into(), ..Item::default() }])
        );
        for (text, expected) in [
            ("", "EOF"),
            ("{}", "not a list"),
            ("[1]", "[0].Config"),
            (r#"[{"Config":"c"},{"Config":1}]"#, "[1].Config"),
            (r#"[{"Config":"c","Layers":"x"}]"#, "[0].Layers"),
            (r#"[{"Config":"c","RepoTags":[1]}]"#, "[0].RepoTags"),
        ] {
            let found = parse(text.as_bytes()).unwrap_err();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
