//! `ocictl inspect`: what a reference names.

use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_ref::{Document, Found, Manifest, Ref, RefPath, Source, Visit, WalkOptions, walk_refs};
use oci_spec_types::Descriptor;
use serde_json::{Value, json};

use crate::cli::InspectArgs;
use crate::connection::Connection;
use crate::copy::bytes;
use crate::failure::Failure;
use crate::open;
use crate::output::print;

pub(crate) async fn run(args: InspectArgs) -> Result<(), Failure> {
    let reading = || format!("reading {}", args.reference);
    let side = args.connection.clone().into();
    let connection =
        Connection::new(side, args.reference.host(), args.retries).mirrors(args.mirrors.clone());
    let from = open::source(&args.reference, &connection, None).await?;
    let manifest =
        from.source.manifest(&from.target).await.map_err(|error| Failure::of(reading(), error))?;
    if args.raw {
        return print(manifest.bytes());
    }
    let visits = visits(manifest, from.source).await;
    let visits = visits.map_err(|error| Failure::of(reading(), error))?;
    if args.json {
        let document = json!({
            "reference": args.reference.to_string(),
            "manifests": visits.iter().map(visit_json).collect::<Vec<_>>(),
        });
        let mut text = serde_json::to_vec_pretty(&document)
            .map_err(|error| Failure::new("writing JSON").because(error))?;
        text.push(b'\n');
        return print(&text);
    }
    let mut text = format!("{}\n", args.reference);
    for visit in &visits {
        describe(visit, &mut text);
    }
    print(text.as_bytes())
}

/// All that a manifest lists, directly or not, from the top down.
async fn visits(manifest: Manifest, source: Arc<dyn Source>) -> oci_ref::Result<Vec<Visit>> {
    if let Document::Artifact(_) | Document::Other(_) = manifest.document() {
        // What these reference is shown with them.
        let descriptor = manifest.descriptor().clone();
        return Ok(vec![Visit {
            path: RefPath::default(),
            descriptor,
            found: Found::Other(manifest),
        }]);
    }
    let options = WalkOptions { sparse: true, ..WalkOptions::default() };
    let mut visits: Vec<Visit> =
        walk_refs(Ref::new(manifest, source)?, options).try_collect().await?;
    visits.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(visits)
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
