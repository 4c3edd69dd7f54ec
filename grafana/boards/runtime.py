"""The process: load, memory, processor, ledger, connections, access."""

from __future__ import annotations

from . import queries as q
from .board import Board, Row
from .panels import BAD, GOOD, NEUTRAL, WARN, Column, Query, Sized, from_to, lines, number, rows, total

EACH = "instance"


def board() -> Board:
    description = "Is the gateway itself well: load, memory, processor, the ledger's disk, connections, access."
    rows = [
        Row("Now", _now()),
        Row("Load", _load()),
        Row("Process", _process()),
        Row("Ledger", _ledger()),
        Row("Connections and access", _access()),
        Row("Each instance", _instances()),
    ]
    return Board("runtime", "Perpetuo / Runtime", description, [], rows)


def _each(metric: str, *where: str) -> Query:
    return Query(f"sum by (instance) ({q.series(metric, *where)})", "{{instance}}")


def _busy(by: str) -> str:
    return f"{q.rate('perpetuo_runtime_busy_seconds_total', by=by)}\n/\nsum{f' by ({by})' if by else ''} ({q.series('perpetuo_runtime_workers')})"


def _now() -> list[Sized]:
    fds = f"max({q.series('process_open_fds')}\n/\n{q.series('process_max_fds')})"
    queue = f"max({q.series('perpetuo_ledger_queue')}\n/\n{q.series('perpetuo_ledger_queue_capacity')})"
    small = [
        number(
            "Instances up",
            "Instances that answer Prometheus.",
            "none",
            f"count({q.series('perpetuo_build_info')})",
            [(None, BAD), (1, GOOD)],
            0,
            empty="none",
        ),
        number(
            "Busy",
            "Share of their time that the threads that serve requests are busy. Near 100 %: more processors or more instances.",
            "percentunit",
            _busy(""),
            from_to(0.7, 0.9),
            0,
        ),
        number(
            "Largest memory",
            "Resident memory, the largest instance.",
            "bytes",
            f"max({q.series('process_resident_memory_bytes')})",
            NEUTRAL,
        ),
        number(
            "Fullest file table",
            "Share of the open files that are allowed; the fullest instance. At 100 % no connection can be made.",
            "percentunit",
            fds,
            from_to(0.6, 0.8),
            0,
        ),
        number(
            "Ledger behind",
            "How long the oldest booking has been waiting for the disk.",
            "s",
            f"max({q.series('perpetuo_ledger_lag_seconds')})",
            from_to(1, 5),
            1,
        ),
        number(
            "Ledger's queue",
            "Share of meter.queue that is full. At 100 % bookings are dropped or requests refused (meter.when_full).",
            "percentunit",
            queue,
            from_to(0.2, 0.5),
            0,
        ),
        number(
            "Ledger's disk",
            "Whether it takes anything.",
            "none",
            f"max({q.series('perpetuo_ledger_failing')})",
            [(None, GOOD), (1, BAD)],
            0,
        ),
        total(
            "Shed in all",
            "Requests in the time shown that were refused because too much was under way.",
            "none",
            q.count("perpetuo_shed_total", 'scope="process"'),
            from_to(1, 100),
        ),
    ]
    return [panel.wide(3) for panel in small]


def _load() -> list[Sized]:
    return [
        lines(
            "Requests in flight",
            "Requests being served. Rising without more requests a second: providers are slow.",
            "none",
            _each("perpetuo_inflight_requests"),
        ),
        lines(
            "Streams in flight", "The part of them whose answer is being streamed.", "none", _each("perpetuo_inflight_streams")
        ),
        lines(
            "Requests a second",
            "HTTP requests of any kind, by the connection that brought them. Many new ones: clients do not reuse connections.",
            "reqps",
            Query(q.rate("perpetuo_http_requests_total", by="connection"), "{{connection}}"),
            stacked=True,
        ),
        lines(
            "Bodies in memory",
            "Bytes of request bodies that are held until their answers have begun.",
            "bytes",
            _each("perpetuo_buffered_bytes"),
        ),
        lines(
            "Shed",
            "Requests that were refused because too much was under way. process: this instance is too small; workspace: one tenant has its share; drain: it was ending.",
            "reqps",
            Query(q.rate("perpetuo_shed_total", by="scope, resource"), "{{scope}} {{resource}}"),
            stacked=True,
        ),
        lines(
            "Requests of the largest apps",
            "Which workspaces make the load.",
            "reqps",
            Query(q.top(5, q.rate("perpetuo_requests_total", by="workspace")), "{{workspace}}"),
            stacked=True,
        ),
    ]


def _process() -> list[Sized]:
    return [
        lines(
            "Workers busy",
            "Share of their time that the threads that serve requests are busy.",
            "percentunit",
            Query(_busy(EACH), "{{instance}}"),
            most=1,
            limits=[(None, "transparent"), (0.7, WARN), (0.9, BAD)],
        ),
        lines(
            "Tasks that wait",
            "Tasks that are ready and wait for a thread. More than a few for long: too little processor.",
            "none",
            _each("perpetuo_runtime_queued_tasks"),
        ),
        lines("Tasks", "Tasks that exist; they follow the connections.", "none", _each("perpetuo_runtime_alive_tasks")),
        lines(
            "Processor",
            "Processors used, by user and system together.",
            "none",
            Query(q.rate("process_cpu_seconds_total", by=EACH), "{{instance}}"),
        ),
        lines("Memory", "Resident memory.", "bytes", _each("process_resident_memory_bytes")),
        lines(
            "Address space",
            "Virtual memory. It may be large; rising without end is a leak.",
            "bytes",
            _each("process_virtual_memory_bytes"),
        ),
        lines(
            "File descriptors",
            "Open files and sockets, and how many may be open.",
            "none",
            Query(f"sum by (instance) ({q.series('process_open_fds')})", "{{instance}}"),
            Query(f"min({q.series('process_max_fds')})", "allowed"),
        ).wide(12),
        lines("Threads", "Threads of the process.", "none", _each("process_threads")).wide(12),
    ]


def _ledger() -> list[Sized]:
    return [
        lines(
            "Behind",
            "How long the oldest booking has been waiting to be written and flushed.",
            "s",
            _each("perpetuo_ledger_lag_seconds"),
            limits=[(None, "transparent"), (1, WARN), (5, BAD)],
        ),
        lines(
            "Queue",
            "Bookings that wait, and how many may.",
            "none",
            Query(f"sum by (instance) ({q.series('perpetuo_ledger_queue')})", "{{instance}}"),
            Query(f"min({q.series('perpetuo_ledger_queue_capacity')})", "allowed"),
        ),
        lines(
            "Time of a commit",
            "Writing a batch and flushing it to the disk.",
            "s",
            *(Query(q.quantile(which, "perpetuo_ledger_commit_seconds"), f"p{which * 100:g}") for which in (0.5, 0.99)),
        ),
        lines(
            "Bookings a second",
            "Bookings that came to the disk.",
            "cps",
            Query(q.rate("perpetuo_ledger_bookings_total", by=EACH), "{{instance}}"),
            stacked=True,
        ),
        lines(
            "Trouble",
            'Commits that failed (they are tried again), bookings that were given up (the bill is incomplete), and, with durability "sync", answers that could not wait.',
            "cps",
            Query(q.rate("perpetuo_ledger_errors_total"), "failed commits"),
            Query(q.rate("perpetuo_ledger_dropped_total"), "dropped bookings"),
            Query(q.rate("perpetuo_ledger_late_total"), "late bookings"),
        ),
        lines(
            "Disk takes nothing",
            "1 while the ledger's disk takes nothing: full, broken or stuck.",
            "none",
            _each("perpetuo_ledger_failing"),
            most=1,
        ),
    ]


def _access() -> list[Sized]:
    admin = q.rate("perpetuo_admin_requests_total", by="resource, method, code")
    return [
        lines(
            "Refused keys and slow heads",
            "By what was wrong. unknown, on the data plane: a revoked key, or someone guesses. admin: someone tries the admin API. Slow heads were closed because they were not in in time. Many: someone tries to use up connections.",
            "reqps",
            Query(q.rate("perpetuo_auth_failures_total", by="plane, why"), "{{plane}} {{why}}"),
            Query(q.rate("perpetuo_slow_heads_total"), "slow heads"),
            stacked=True,
        ),
        lines(
            "Admin API",
            "Requests, by resource and status.",
            "reqps",
            Query(f"{q.top(12, admin)} > 0", "{{method}} {{resource}} {{code}}"),
            stacked=True,
        ),
        lines(
            "Connections to providers",
            "For attempts: from the pool, new, or not to be had.",
            "cps",
            Query(q.rate("perpetuo_upstream_connections_total", by="kind"), "{{kind}}"),
            stacked=True,
            colors={"reused": "green", "new": "blue", "failed": "red"},
        ),
        lines(
            "Log lines and spans that were lost",
            "Lines of the access log that were not written (nobody reads standard output, or the disk is full), and spans that the collector did not take.",
            "cps",
            Query(q.rate("perpetuo_access_log_dropped_total"), "access log"),
            Query(q.rate("perpetuo_trace_spans_dropped_total"), "spans"),
        ).wide(12),
        lines(
            "Spans exported",
            "Spans that the collector took. None, where tracing is off.",
            "cps",
            Query(q.rate("perpetuo_trace_spans_exported_total", by=EACH), "{{instance}}"),
        ).wide(12),
    ]


def _instances() -> list[Sized]:
    def of(metric: str, *where: str) -> str:
        return f"max by (job, instance) ({q.series(metric, *where)})"

    version = f"max by (job, instance, version) ({q.series('perpetuo_build_info')})"
    return [
        rows(
            "Instances",
            "Each with its version, its age, and that of the configuration it uses.",
            {"job": "Deployment", "instance": "Instance"},
            Column("Up for", f"time() - {of('process_start_time_seconds')}", "s"),
            Column("Configuration loaded", f"time() - {of('perpetuo_config_last_success_timestamp_seconds')}", "s"),
            Column("Draining", of("perpetuo_draining"), "none", [(None, GOOD), (1, WARN)]),
            Column("Requests in flight", of("perpetuo_inflight_requests"), "none"),
            Column("Memory", of("process_resident_memory_bytes"), "bytes"),
        ),
        rows(
            "Versions",
            "More than one: a roll-out is under way, or has stopped half-way.",
            {"job": "Deployment", "instance": "Instance", "version": "Version"},
            Column("", version, "none"),
        ).wide(6),
        total(
            "Failed reloads",
            "Reloads of the configuration that were refused in the time shown; the old one stays in use.",
            "none",
            q.count("perpetuo_config_reloads_total", 'result="failure"'),
            from_to(0.5, 1),
        ).wide(3, 8),
        total(
            "Figures put together",
            "Times in the time shown that a label became other, because a bound of the metrics page was reached.",
            "none",
            q.count("perpetuo_metrics_collapsed_total"),
            from_to(0.5, 1000),
        ).wide(3, 8),
    ]
