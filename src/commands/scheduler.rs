//! `pintle scheduler`: configuration and flags, connections, leader election, endpoints.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pintle_client::{ConnectOptions, LeaderElectionConfig, LeaderElector, RateLimit};
use pintle_component::Daemon;
use pintle_scheduler_runner::Config;
use pintle_scheduler_runner::configuration::{
    CheckedConfiguration, KubeSchedulerConfiguration, LeaderElection,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::{LeaderElectionArgs, LogArgs, SchedulerArgs, ServingArgs};
use crate::commands::control_plane::hostname;
use crate::commands::memory;
use crate::exit::UsageError;

pub(crate) async fn run(args: SchedulerArgs) -> anyhow::Result<()> {
    let checked = configure(&args)?;
    warn(&args, &checked);
    memory::use_small_pages();
    let connections = Connections::new(&args, &checked)?;
    let shutdown = pintle_component::shutdown_on_signal().context("listen for signals")?;
    let daemon = Daemon { shutdown, ..Daemon::default() };
    let mut endpoints = serve(&args.serving, &connections, &daemon).await?;
    let outcome = schedule(&args, &checked, &connections, &daemon).await;
    daemon.shutdown.cancel();
    while let Some(ended) = endpoints.join_next().await {
        ended.context("serve health checks and metrics")??;
    }
    outcome
}

/// `-v` as kube-scheduler's users give it, unless `--log` says more.
pub(crate) fn log_filter(args: &SchedulerArgs, log: &LogArgs) -> String {
    match args.v {
        _ if log.log != "info" => log.log.clone(),
        0..=3 => log.log.clone(),
        4 | 5 => "debug".to_owned(),
        _ => "trace".to_owned(),
    }
}

/// The file and the flags, checked together: one line if something is wrong with them.
fn configure(args: &SchedulerArgs) -> Result<CheckedConfiguration, UsageError> {
    let mut configuration = match &args.config {
        Some(path) => KubeSchedulerConfiguration::read(path)?,
        None => KubeSchedulerConfiguration::default(),
    };
    apply_election(&mut configuration.leader_election, &args.election);
    if args.config.is_none() {
        configuration.client_connection.qps = args.kube_api_qps;
        configuration.client_connection.burst = args.kube_api_burst;
    }
    configuration.check().map_err(|errors| match &args.config {
        Some(path) => UsageError(format!("{}: {errors}", path.display())),
        None => UsageError(errors.to_string()),
    })
}

fn apply_election(election: &mut LeaderElection, args: &LeaderElectionArgs) {
    fn set<T: Clone>(field: &mut T, given: Option<&T>) {
        if let Some(given) = given {
            *field = given.clone();
        }
    }
    set(&mut election.leader_elect, args.leader_elect.as_ref());
    set(&mut election.lease_duration, args.leader_elect_lease_duration.as_ref());
    set(&mut election.renew_deadline, args.leader_elect_renew_deadline.as_ref());
    set(&mut election.retry_period, args.leader_elect_retry_period.as_ref());
    set(&mut election.resource_lock, args.leader_elect_resource_lock.as_ref());
    set(&mut election.resource_name, args.leader_elect_resource_name.as_ref());
    set(&mut election.resource_namespace, args.leader_elect_resource_namespace.as_ref());
}

/// What was asked for and is not done.
fn warn(args: &SchedulerArgs, checked: &CheckedConfiguration) {
    let configuration = checked.configuration();
    if !args.ignored.given.is_empty() {
        let flags = args.ignored.given.join(", --");
        tracing::warn!("flags of kube-scheduler that have no effect here: --{flags}");
    }
    if args.config.is_some() && (args.kube_api_qps.is_some() || args.kube_api_burst.is_some()) {
        tracing::warn!("--kube-api-qps and --kube-api-burst have no effect beside --config");
    }
    if args.kubeconfig.is_some() && configuration.client_connection.kubeconfig.is_some() {
        tracing::warn!("--kubeconfig has no effect: the configuration names another");
    }
    if checked.limits_nodes_to_score() {
        tracing::info!("percentageOfNodesToScore has no effect: every node is always scored");
    }
}

/// How the API server is reached.
#[derive(Clone)]
struct Connections {
    kubeconfig: Option<PathBuf>,
    server: Option<String>,
    rate_limit: Option<RateLimit>,
}

impl Connections {
    fn new(args: &SchedulerArgs, checked: &CheckedConfiguration) -> anyhow::Result<Self> {
        let connection = &checked.configuration().client_connection;
        let burst = connection.burst.and_then(|burst| u32::try_from(burst).ok());
        let rate_limit = match connection.qps {
            Some(qps) if qps.is_nan() => {
                return Err(UsageError("--kube-api-qps: not a number".to_owned()).into());
            }
            // Below zero is client-go's way to say: no limit.
            Some(qps) if qps > 0.0 => Some(RateLimit { qps, burst: burst.unwrap_or(BURST).max(1) }),
            _ => None,
        };
        let named = connection.kubeconfig.as_ref().map(PathBuf::from);
        let kubeconfig = named.or_else(|| args.kubeconfig.clone());
        Ok(Self { kubeconfig, server: args.master.clone(), rate_limit })
    }

    /// The scheduler's own connection, as fast as it may be.
    async fn scheduler(&self) -> anyhow::Result<kube::Client> {
        self.connect(self.kubeconfig.as_deref(), self.rate_limit).await
    }

    /// For the Lease, which may not queue behind bindings, and for questions about access.
    async fn urgent(&self) -> anyhow::Result<kube::Client> {
        self.connect(self.kubeconfig.as_deref(), None).await
    }

    async fn connect(
        &self,
        kubeconfig: Option<&Path>,
        rate_limit: Option<RateLimit>,
    ) -> anyhow::Result<kube::Client> {
        let options = ConnectOptions { kubeconfig, server: self.server.as_deref(), rate_limit };
        Ok(pintle_client::connect_with(&options).await?)
    }
}

/// Schedule until a signal, or until the leadership is lost.
async fn schedule(
    args: &SchedulerArgs,
    checked: &CheckedConfiguration,
    connections: &Connections,
    daemon: &Daemon,
) -> anyhow::Result<()> {
    let config = Config {
        unschedulable_max: args.pod_max_in_unschedulable_pods_duration.to_std(),
        ..Config::try_from(checked)?
    };
    let client = connections.scheduler().await?;
    let election = &checked.configuration().leader_election;
    if !election.leader_elect {
        return Ok(pintle_scheduler_runner::run(client, config, daemon.clone()).await?);
    }
    let lease = lease(election, &config.scheduler_name)?;
    let election = Election::start(connections.clone(), lease, daemon);
    let leading = election.leading.clone();
    let late = checked.configuration().delay_cache_until_active;
    let guarded = async {
        if late && !lead(&leading, &daemon.shutdown).await {
            return Ok(());
        }
        let config = Config { leading: Some(leading.clone()), ..config };
        pintle_scheduler_runner::run(client, config, daemon.clone()).await
    };
    Ok(election.guard(guarded).await??)
}

/// The election, on a thread of its own: a busy scheduler shall not be late to renew its Lease.
struct Election {
    leading: CancellationToken,
    /// What the leadership guards has ended; the Lease may be released.
    done: CancellationToken,
    ended: oneshot::Receiver<anyhow::Result<()>>,
}

impl Election {
    fn start(connections: Connections, lease: LeaderElectionConfig, daemon: &Daemon) -> Self {
        let (leading, done) = (CancellationToken::new(), CancellationToken::new());
        let (end, ended) = oneshot::channel();
        let (led, stop, daemon) = (leading.clone(), done.clone(), daemon.clone());
        std::thread::spawn(move || {
            // Nobody may be left to hear of it.
            let _ = end.send(elect(&connections, lease, &daemon, &led, &stop));
        });
        Self { leading, done, ended }
    }

    /// Runs `guarded` to its end and then releases the Lease, or drops it when the Lease is lost.
    async fn guard<T>(mut self, guarded: impl Future<Output = T>) -> anyhow::Result<T> {
        let outcome = tokio::select! {
            biased;
            ended = &mut self.ended => {
                ended.context("run the leader election")??;
                return Err(anyhow::anyhow!("the leader election ended"));
            }
            outcome = guarded => outcome,
        };
        self.done.cancel();
        self.ended.await.context("end the leader election")??;
        Ok(outcome)
    }
}

fn elect(
    connections: &Connections,
    lease: LeaderElectionConfig,
    daemon: &Daemon,
    leading: &CancellationToken,
    done: &CancellationToken,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start the leader election's runtime")?.block_on(async {
        let elector = LeaderElector::new(connections.urgent().await?, lease, daemon);
        let guarded = async |led: CancellationToken| {
            tokio::select! {
                () = led.cancelled() => leading.cancel(),
                () = done.cancelled() => {}
            }
            done.cancelled().await;
        };
        Ok(elector.run(guarded).await?)
    })
}

/// Wait for the leadership; false if we are told to stop before.
async fn lead(leading: &CancellationToken, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => false,
        () = leading.cancelled() => true,
    }
}

fn lease(election: &LeaderElection, reporter: &str) -> anyhow::Result<LeaderElectionConfig> {
    let host = hostname().context("find this machine's name for the leader election")?;
    Ok(LeaderElectionConfig {
        namespace: election.resource_namespace.clone(),
        name: election.resource_name.clone(),
        // Two processes on one machine are two candidates.
        identity: format!("{host}_{}", uuid::Uuid::new_v4()),
        lease_duration: election.lease_duration.to_std(),
        renew_deadline: election.renew_deadline.to_std(),
        retry_period: election.retry_period.to_std(),
        component: "kube-scheduler".to_owned(),
        reporter: reporter.to_owned(),
    })
}

type Endpoints = JoinSet<std::io::Result<()>>;

/// Answer health checks and metrics where the flags say.
async fn serve(
    args: &ServingArgs,
    connections: &Connections,
    daemon: &Daemon,
) -> anyhow::Result<Endpoints> {
    let mut endpoints = Endpoints::new();
    if args.secure_port != 0 {
        let tls = match (&args.tls_cert_file, &args.tls_private_key_file) {
            (Some(certificate), Some(key)) => pintle_component::tls_from_files(certificate, key)?,
            _ => pintle_component::tls_self_signed(&["localhost", "127.0.0.1", "kube-scheduler"])?,
        };
        let reviewer = match args.authentication_kubeconfig.as_deref() {
            Some(path) => connections.connect(Some(path), None).await?,
            None => connections.urgent().await?,
        };
        let allowed = args.authorization_always_allow_paths.clone();
        let access = Some(pintle_client::delegated_access(reviewer, allowed));
        let (listener, daemon) =
            (listen(args.bind_address, args.secure_port).await?, daemon.clone());
        endpoints.spawn(async move {
            pintle_component::serve_tls(listener, tls, access, &daemon).await
        });
    }
    if args.port != 0 {
        let listener = listen(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port).await?;
        let (health, registry) = (daemon.health.clone(), daemon.registry.clone());
        let shutdown = daemon.shutdown.clone();
        endpoints.spawn(pintle_component::serve(listener, health, registry, shutdown));
    }
    Ok(endpoints)
}

async fn listen(address: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for health checks and metrics"))
}

/// kube-scheduler's burst where only the rate is given.
const BURST: u32 = 100;
