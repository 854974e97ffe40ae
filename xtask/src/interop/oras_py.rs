//! The Python package oras, driven by a script beside this file.

use crate::interop::client::Client;
use crate::interop::world::World;
use crate::process::Result;

/// A Python that has the package.
const PYTHON: &str = "oras-python";

pub(crate) const CLIENT: Client = Client {
    name: "oras-py",
    programs: &[(PYTHON, &["-c", "import oras; print(oras.__version__)"])],
    scenarios: &[("pushes whole and in chunks, attaches, lists, pulls after a kill, deletes", all)],
    not_covered: "indexes, mounts and discovery (it has no call for them; what it attached is read from the registry)",
};

fn all(world: &World<'_>) -> Result {
    let script = world.file("steps.py", include_str!("oras_py.py"))?;
    let server = world.serve()?;
    world.run(PYTHON, &[&script, "push", &server.host])?;
    server.kill()?;
    let server = world.serve()?;
    world.run(PYTHON, &[&script, "check", &server.host])?;
    world.run(PYTHON, &[&script, "delete", &server.host])?;
    server.kill()?;
    let server = world.serve()?;
    world.check_gone(&format!("{}/oras-py/artifact:note", server.host))
}
