//! helm: charts in a registry.

use crate::interop::client::Client;
use crate::interop::world::{World, expect};
use crate::process::Result;

pub(crate) const CLIENT: Client = Client {
    name: "helm",
    programs: &[("helm", &["version", "--short"])],
    scenarios: &[
        ("pushes charts, the server is killed, it pulls them and renders one", push_kill_pull),
        ("resolves a dependency by a range of versions", dependency),
    ],
    not_covered: "installing (it needs a cluster); provenance files (they need a signing key); list, delete and \
                  attach (it has no command for them)",
};

const TEMPLATE: &str =
    "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: {{ .Chart.Name }}-{{ .Chart.Version }}\n";

/// Makes a chart and packages it.
fn package(world: &World<'_>, version: &str) -> Result<String> {
    let name = format!("chart-{version}");
    let chart = world.directory(&name)?;
    world.directory(&format!("{name}/templates"))?;
    let about = format!("apiVersion: v2\nname: sample\nversion: {version}\n");
    world.file(&format!("{name}/Chart.yaml"), about)?;
    world.file(&format!("{name}/templates/map.yaml"), TEMPLATE)?;
    let to = world.scratch.path().to_string_lossy().into_owned();
    world.run("helm", &["package", &chart.to_string_lossy(), "--destination", &to])?;
    Ok(format!("sample-{version}.tgz"))
}

fn push(world: &World<'_>, package: &str, host: &str) -> Result {
    let to = format!("oci://{host}/charts");
    world.run("helm", &["push", "--plain-http", &world.text(package), &to]).map(|_| ())
}

fn push_kill_pull(world: &World<'_>) -> Result {
    // A tag has no plus: helm writes an underscore in its place.
    let versions = ["0.1.0", "0.2.0+build.1"];
    let server = world.serve()?;
    for version in versions {
        push(world, &package(world, version)?, &server.host)?;
    }
    server.kill()?;

    let server = world.serve()?;
    let chart = format!("oci://{}/charts/sample", server.host);
    world.directory("back")?;
    let back = world.text("back");
    for version in versions {
        let of = ["--plain-http", &chart, "--version", version];
        world.run("helm", &[&["pull", "--destination", &back], &of[..]].concat())?;
        let package = format!("sample-{version}.tgz");
        if world.read(&package)? != world.read(&format!("back/{package}"))? {
            return Err(format!("helm pulled another {package} than it pushed"));
        }
        let rendered = world.run("helm", &[&["template", "release"], &of[..]].concat())?;
        expect("helm template", &rendered, &format!("name: sample-{version}"))?;
    }
    Ok(())
}

fn dependency(world: &World<'_>) -> Result {
    let server = world.serve()?;
    for version in ["1.0.0", "1.4.2", "2.0.0"] {
        push(world, &package(world, version)?, &server.host)?;
    }
    world.directory("parent")?;
    let about = format!(
        "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n\
         - name: sample\n  version: ^1.0.0\n  repository: oci://{}/charts\n",
        server.host
    );
    world.file("parent/Chart.yaml", about)?;
    world.run("helm", &["dependency", "update", "--plain-http", &world.text("parent")])?;
    // The newest that the range takes.
    if world.read("parent/charts/sample-1.4.2.tgz")? == world.read("sample-1.4.2.tgz")? {
        return Ok(());
    }
    Err("helm resolved another chart than it pushed".into())
}
