//! A registry in memory: `cargo run --example memory -- 127.0.0.1:5000`, and optionally `--sparse` to take manifests
//! whose references are not all there. Ctrl-C ends it.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;

use oci_registry_server::{MemoryRegistry, ServeOptions, ServerOptions, router, serve};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let sparse = arguments.iter().any(|argument| argument == "--sparse");
    let address = arguments.iter().find(|argument| !argument.starts_with('-'));
    let address = address.map_or("127.0.0.1:5000", String::as_str);

    let registry = if sparse { MemoryRegistry::sparse() } else { MemoryRegistry::new() };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = router(Arc::new(registry), ServerOptions::new());
    let interrupted = async {
        // Without the signal the registry goes on until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    serve(listener, app, ServeOptions::new(), interrupted).await;
    Ok(())
}
