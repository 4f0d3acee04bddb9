//! What the conformance suite of the Model Context Protocol expects to find,
//! behind the door of `runpackd`. Only tests run it: `just conformance`.
//!
//! A product without the suite's fixtures passes few of its scenarios, and some
//! of them for no reason. So the stack that the product runs on, from sockets to
//! guards to the SDK's configuration, is measured with these in its place.

#![allow(deprecated, reason = "clients of the old era ask for what the new one has left behind")]
#![allow(unreachable_pub)]

mod catalogue;
mod fixture;
mod rounds;
mod tasks;

use std::error::Error;
use std::sync::Arc;

use clap::Parser;
use runpackd_lib::config::{Missing, ServiceConfiguration};
use runpackd_lib::http::{self, Behind, Face, Options, Sessions};
use runpackd_lib::service::Service;
use runpackd_lib::talk::{self, LogArgs};
use runpackd_lib::tools::{TOOLS, Tools};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing_subscriber::filter::LevelFilter;

/// The quickstart's door, and runs in memory.
const CONFIG: &str = "[server]\ntransport = \"http\"\nbind = \"127.0.0.1:0\"\n\n[dev]\npermissive = true\n\n\
    [namespace]\nallow_default = true\ndefault_tenants = [1]\n\n[[providers]]\nname = \"time\"\ntype = \"builtin\"\n";

/// Serve the fixtures of the conformance suite to this machine
#[derive(Parser)]
struct Args {
    /// Keep sessions for clients of the old era, and answer in streams
    #[arg(long)]
    sessions: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Args { sessions } = Args::parse();
    talk::begin(LogArgs::default(), LevelFilter::ERROR);
    let configuration = ServiceConfiguration::parse(CONFIG, "conformance", Missing::Refuse)?;
    let tools = Arc::new(Tools::new(Arc::new(Service::open(configuration)?), TOOLS));
    let sessions = if sessions { Sessions::Kept(Arc::default()) } else { Sessions::Never };
    let fixture = fixture::Fixture::new(catalogue::Catalogue::read()?);
    let behind = Behind { tools, mcp: Face::new(fixture, sessions), rate: None, tls: None };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    talk::talk(&format!("listening on http://{}", listener.local_addr()?));
    let (_change, changes) = mpsc::channel(1);
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    Ok(http::serve(listener, behind, Options::default(), changes, stop).await?)
}
