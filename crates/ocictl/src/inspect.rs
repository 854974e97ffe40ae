//! `ocictl inspect`: what a reference names.

use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use oci_ref::{Document, Found, Manifest, Ref, RefPath, Source, Visit, WalkOptions, walk_refs};
use oci_spec_types::Descriptor;
use serde_json::{Value, json};

use crate::cli::InspectArgs;
use crate::connection::{Connection, ManifestArgs};
use crate::copy::bytes;
use crate::failure::Failure;
use crate::location::Location;
use crate::open;
use crate::output::print;

/// The most bytes of output that are held back until all is read: 1 MiB.
const HELD: usize = 1 << 20;

pub(crate) async fn run(args: InspectArgs) -> Result<(), Failure> {
    let failed = |error| args.manifests.hint(format!("reading {}", args.reference), error);
    let side = args.connection.clone().into();
    let connection = Connection::new(side, args.reference.host(), args.retries)
        .mirrors(args.mirrors.clone())
        .max_manifest(&args.manifests);
    let from = open::source(&args.reference, &connection, None).await?;
    let manifest = from.source.manifest(&from.target).await.map_err(failed)?;
    if args.raw {
        return print(manifest.bytes());
    }
    let mut out = match args.json {
        true => Out::json(),
        false => Out::text(&args.reference),
    };
    let mut visits = pin!(visits(manifest, from.source, &args.manifests).map_err(failed)?);
    while let Some(visit) = visits.try_next().await.map_err(failed)? {
        out.add(&visit)?;
    }
    out.end(&args.reference)
}

/// All that a manifest lists, directly or not, from the top down, as it is read.
fn visits(
    manifest: Manifest,
    source: Arc<dyn Source>,
    limits: &ManifestArgs,
) -> oci_ref::Result<impl Stream<Item = oci_ref::Result<Visit>>> {
    if let Document::Artifact(_) | Document::Other(_) = manifest.document() {
        // What these reference is shown with them.
        let descriptor = manifest.descriptor().clone();
        let found = Found::Other(manifest);
        let visit = Visit { path: RefPath::default(), descriptor, found };
        return Ok(stream::iter([Ok(visit)]).left_stream());
    }
    // The largest one, and another one within it.
    let max_nested_bytes = limits.max_manifest.saturating_mul(2);
    let options = WalkOptions {
        sparse: true,
        parents_first: true,
        max_nested_bytes,
        ..WalkOptions::default()
    };
    Ok(walk_refs(Ref::new(manifest, source)?, options).right_stream())
}

/// The output. It is printed when it is complete, so that a failure leaves nothing of it; or as it
/// comes, if it is large.
struct Out {
    json: bool,
    first: bool,
    text: Vec<u8>,
}

impl Out {
    fn text(reference: &Location) -> Self {
        Self { json: false, first: true, text: format!("{reference}\n").into_bytes() }
    }

    fn json() -> Self {
        Self { json: true, first: true, text: b"{\n  \"manifests\": [".to_vec() }
    }

    fn add(&mut self, visit: &Visit) -> Result<(), Failure> {
        if self.json {
            let comma = if std::mem::take(&mut self.first) { "" } else { "," };
            self.text.extend_from_slice(comma.as_bytes());
            let pretty = serde_json::to_string_pretty(&visit_json(visit))
                .map_err(|error| Failure::new("writing JSON").because(error))?;
            // Strings have no ends of lines.
            for line in pretty.lines() {
                self.text.extend_from_slice(b"\n    ");
                self.text.extend_from_slice(line.as_bytes());
            }
        } else {
            let mut text = String::new();
            describe(visit, &mut text);
            self.text.extend_from_slice(text.as_bytes());
        }
        if self.text.len() > HELD {
            print(&std::mem::take(&mut self.text))?;
        }
        Ok(())
    }

    fn end(mut self, reference: &Location) -> Result<(), Failure> {
        if self.json {
            let reference = Value::from(reference.to_string());
            let end = format!("\n  ],\n  \"reference\": {reference}\n}}\n");
            self.text.extend_from_slice(end.as_bytes());
        }
        print(&self.text)
    }
}

/// References of a manifest that are shown with it: what an index lists has been visited for
/// itself.
fn blobs(manifest: &Manifest) -> Vec<&Descriptor> {
    match manifest.document() {
        Document::Other(other) => other.descriptors.iter().collect(),
        _ => manifest.blobs().collect(),
    }
}

/// One line a manifest, and one a blob, indented by depth.
fn describe(visit: &Visit, text: &mut String) {
    let indent = "  ".repeat(visit.path.positions().len());
    let platform = visit.descriptor.platform.as_ref();
    let platform = platform.map_or_else(String::new, |platform| format!("  {}", plain(platform)));
    let (kind, manifest) = match &visit.found {
        Found::Ref(Ref::Image(image)) => ("image", Some(image.manifest())),
        Found::Ref(Ref::Index(index)) => ("index", Some(index.manifest())),
        Found::Other(manifest) => ("manifest", Some(manifest)),
        Found::Blob => ("blob", None),
        Found::Missing => ("missing", None),
    };
    let artifact = manifest.and_then(|manifest| manifest.descriptor().artifact_type.as_deref());
    let artifact = artifact.map_or_else(String::new, |kind| format!("  artifact {}", plain(kind)));
    text.push_str(&format!(
        "{indent}{kind} {}  {}  {}{platform}{artifact}\n",
        visit.descriptor.digest,
        plain(&visit.descriptor.media_type),
        bytes(visit.descriptor.size),
    ));
    if let Some(subject) = manifest.and_then(Manifest::subject) {
        text.push_str(&format!("{indent}  subject {}\n", subject.digest));
    }
    for blob in manifest.into_iter().flat_map(blobs) {
        text.push_str(&format!(
            "{indent}  {}  {}  {}\n",
            blob.digest,
            plain(&blob.media_type),
            bytes(blob.size)
        ));
    }
}

/// A text of somebody else.
fn plain(text: impl std::fmt::Display) -> String {
    oci_spec_types::plain(&text.to_string()).into_owned()
}

fn visit_json(visit: &Visit) -> Value {
    let manifest = match &visit.found {
        Found::Ref(found) => Some(found.manifest()),
        Found::Other(manifest) => Some(manifest),
        Found::Blob | Found::Missing => None,
    };
    let blobs: Vec<&Descriptor> = manifest.into_iter().flat_map(blobs).collect();
    json!({
        "path": visit.path.to_string(),
        "descriptor": visit.descriptor,
        "missing": matches!(visit.found, Found::Missing),
        "blob": matches!(visit.found, Found::Blob),
        "artifactType": manifest.and_then(|manifest| manifest.descriptor().artifact_type.as_deref()),
        "subject": manifest.and_then(Manifest::subject),
        "annotations": manifest.and_then(Manifest::annotations),
        "blobs": blobs,
    })
}
