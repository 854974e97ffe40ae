//! What came of a job, for people and for programs.

use serde_json::Value;

use super::Event;
use crate::cli::DataArgs;
use crate::copy::bytes;
use crate::failure::Failure;
use crate::output;

/// Prints a report: as text, or as JSON if that is asked for.
pub(super) fn print(args: &DataArgs, text: String, report: &Value) -> Result<(), Failure> {
    let line = if args.json { format!("{report}\n") } else { text };
    output::print(line.as_bytes())
}

/// Prints a problem as soon as it is told.
pub(super) fn problem(args: &DataArgs, event: &Event) -> Result<(), Failure> {
    let Event::Problem(problem) = event else { return Ok(()) };
    let line = match (args.json, problem["remedy"].as_str()) {
        (true, _) => format!("{}\n", serde_json::json!({"problem": problem})),
        (false, None) => format!("{}\n", text_of(problem, "what")),
        (false, Some(remedy)) => {
            let when = if problem["mending"] == true { "mending" } else { "with --repair" };
            format!("{}\n  {when}: {remedy}\n", text_of(problem, "what"))
        }
    };
    output::print(line.as_bytes())
}

fn text_of<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("?")
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or(0)
}

pub(super) fn gc(report: &Value) -> String {
    let number = |name| number(report, name);
    let (manifests, links, blobs) = (number("manifests"), number("links"), number("blobs"));
    let size = bytes(number("bytes"));
    let uploads = number("uploads");
    if report["dry_run"] == true {
        let mut text = format!(
            "would delete {manifests} untagged manifests, take {links} blobs out of repositories, and free {blobs} of them ({size})\n"
        );
        if uploads > 0 {
            text += &format!("would give up {uploads} unfinished uploads\n");
        }
        return text;
    }
    let mut text = format!(
        "{manifests} untagged manifests deleted, {links} blobs taken out of repositories, {blobs} of them freed ({size})\n\
         {} files deleted of blobs that went earlier\n",
        number("files")
    );
    if uploads > 0 {
        text += &format!("{uploads} unfinished uploads given up\n");
    }
    if number("failed") > 0 {
        text += &format!(
            "{} files could not be deleted, which is tried again; the log says why\n",
            number("failed")
        );
    }
    text
}

pub(super) fn fsck(report: &Value) -> String {
    let number = |name| number(report, name);
    let found = match (number("problems"), number("mended")) {
        (0, _) => "all is well".to_owned(),
        (problems, mended) => format!("{problems} problems, {mended} mended"),
    };
    format!(
        "{} blobs, {} manifests and {} files checked ({} read): {found}\n",
        number("blobs"),
        number("manifests"),
        number("files"),
        bytes(number("bytes"))
    )
}

/// How many problems are there still.
pub(super) fn left(report: &Value) -> u64 {
    number(report, "problems").saturating_sub(number(report, "mended"))
}

pub(super) fn backup(report: &Value, to: &str) -> String {
    let number = |name| number(report, name);
    format!(
        "{} blobs copied to {to}, {} of them in files ({})\n",
        number("blobs"),
        number("files"),
        bytes(number("bytes"))
    )
}
