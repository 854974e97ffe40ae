//! `ocictl login` and `ocictl logout`: credentials, kept where Podman and Docker keep theirs.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use oci_registry_client::{Credentials, StaticCredentials};
use oci_spec_types::Host;

use crate::cli::{LoginArgs, LogoutArgs};
use crate::connection::password_from;
use crate::failure::Failure;
use crate::output;

pub(crate) async fn login(args: LoginArgs) -> Result<(), Failure> {
    let host = &args.host;
    let username = match &args.username {
        Some(username) => username.clone(),
        None if args.password_stdin => {
            return Err(Failure::new("--password-stdin wants --username too"));
        }
        None => ask_username(host)?,
    };
    let password = match args.password_stdin {
        true => password_from(std::io::stdin().lock(), "the password")?,
        false => ask_password(&username, host)?,
    };
    if username.is_empty() || password.is_empty() {
        return Err(Failure::new("the user name and the password must not be empty"));
    }
    let credentials = Credentials::basic(username, password);
    let given = StaticCredentials::new().with(host.clone(), credentials.clone());
    let doing = format!("logging in to {host}");
    let failed = |error: oci_registry_client::Error| {
        let refused = error.is_unauthorized();
        let failure = Failure::of(&doing, error.into());
        if refused { failure.hint("check the user name and the password") } else { failure }
    };
    let client = args.registry.builder(host)?.credentials(given).build().map_err(failed)?;
    client.registry(host).map_err(failed)?.ping().await.map_err(failed)?;
    let kept = args.registry.credentials().store(host, &credentials).await;
    kept.map_err(|error| Failure::of(format!("keeping the credentials for {host}"), error.into()))?;
    output::print(format!("logged in to {host}\n").as_bytes())
}

pub(crate) async fn logout(args: LogoutArgs) -> Result<(), Failure> {
    let host = &args.host;
    let config = args.authfile.map_or_else(
        oci_registry_client::DockerConfig::from_env,
        oci_registry_client::DockerConfig::at,
    );
    let erased = config.erase(host).await.map_err(|error| {
        Failure::of(format!("forgetting the credentials for {host}"), error.into())
    })?;
    match erased {
        true => output::print(format!("logged out of {host}\n").as_bytes()),
        false => output::print(format!("there were no credentials for {host}\n").as_bytes()),
    }
}

fn ask_username(host: &Host) -> Result<String, Failure> {
    let failed = |error| Failure::new("asking for the user name").because(error);
    if !std::io::stdin().is_terminal() {
        return Err(no_terminal());
    }
    let mut terminal = std::io::stderr();
    write!(terminal, "User name at {host}: ").and_then(|()| terminal.flush()).map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(line.trim().to_owned())
}

fn ask_password(username: &str, host: &Host) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(no_terminal());
    }
    rpassword::prompt_password(format!("Password of {username} at {host}: "))
        .map_err(|error| Failure::new("asking for the password").because(error))
}

fn no_terminal() -> Failure {
    Failure::new("there is no terminal to ask on")
        .hint("give the password on the standard input: --username NAME --password-stdin")
}
