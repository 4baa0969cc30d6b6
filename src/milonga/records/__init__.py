"""Records of commands and their trees, their files, analyses and subscribers.

A `RecordStore` is a database: SQLite in a file, or PostgreSQL by URL. A running server writes to it
through a `Recorder`, which never makes a command wait or fail; everybody else reads with
`find_page`, `explain` and `RecordCommands`, or with SQLAlchemy and the models themselves.
"""

from milonga.records._analysis import (
    ANALYSIS_MOVES,
    DescribedAnalysis,
    ElogSummaryPlots,
    Summary,
    TaskResult,
    TaskStatus,
)
from milonga.records._analysis_loop import AnalysisLoop
from milonga.records._analysis_process import RunningAnalysis
from milonga.records._analysis_records import (
    analysis_from_record,
    analysis_to_record,
    result_from_tracker,
)
from milonga.records._analysis_results import (
    MAX_ATTACHED,
    AnalysisOutput,
    Attached,
    attach_analysis,
)
from milonga.records._analysis_store import read_analysis, read_latest_parameter, record_analysis
from milonga.records._attachments import TaskAttachments, plots_in, write_plots
from milonga.records._codec import (
    Attachments,
    FileReference,
    decode,
    description_from_json,
    description_to_json,
    encode,
    result_from_json,
    result_to_json,
)
from milonga.records._durations import recent_durations
from milonga.records._engine import Synchronous
from milonga.records._environment import select_environment
from milonga.records._events import Announcement
from milonga.records._executor import ANALYSIS_EVENTS, AnalysisExecutor
from milonga.records._explain import explain
from milonga.records._explain_tree import explain_tree
from milonga.records._export import CSV_COLUMNS, export_csv, export_jsonl
from milonga.records._figures import figure_bytes
from milonga.records._file_model import TaskFile, TaskLink
from milonga.records._file_names import safe_name
from milonga.records._files import FileQuota, FileStore
from milonga.records._flatten import flatten
from milonga.records._lifecycle import (
    add_step,
    clear_step,
    find_task,
    save_task_error,
    save_task_result,
    start_task,
)
from milonga.records._lute_export import export_lute
from milonga.records._migrate import UPGRADE_COMMAND, current_version, latest_version, migrate
from milonga.records._outbox import StoredMessage, WebhookOutbox
from milonga.records._owner_model import RecordOwner
from milonga.records._parameters import AnalysisHeader, AnalysisParameters, substitute
from milonga.records._payloads import MAX_SUBSCRIPTIONS, RecordCommands
from milonga.records._providers import FileProvider, LocalFiles, UrlFiles, load_providers
from milonga.records._query import MAX_PAGE, Page, TaskFilter, count_tasks, find_page, walk
from milonga.records._recorded_tree import recorded_tree
from milonga.records._recorder import Recorder
from milonga.records._recovery import close_abandoned, close_lost
from milonga.records._reporter import FileReporter, LogReporter, QueuedReporter, Report, Reporter
from milonga.records._reports import MAX_FIRST_LINE, Explanation, NodeReport
from milonga.records._retention import Retention, claim_round, retain
from milonga.records._rows import Durability, NewTask, new_tasks, node_uid
from milonga.records._state_model import MAX_BLOB_BYTES, DataBlob, PluginState, find_states
from milonga.records._step_model import Step, TaskLogLine
from milonga.records._store import RecordStore, StoreSettings, Transaction
from milonga.records._subscription_model import (
    OutboxMessage,
    TaskEvent,
    TaskUpdateSubscription,
    WebhookRef,
)
from milonga.records._task_model import ProcessingTask, TaskRun
from milonga.records._unfinished import (
    FinishedCommand,
    RecordedNode,
    UnfinishedCommand,
    find_finished,
    find_unfinished,
)
from milonga.records._view import summary_view, task_view
from milonga.records._words import (
    SITUATIONS,
    AnalysisStatus,
    Cause,
    Phase,
    RecordStatus,
    Situation,
    Words,
    situation_of,
    situation_of_analysis,
    situation_of_record,
)
from milonga.records._writer import RecorderSettings, RecorderStatistics

SummaryPlots = ElogSummaryPlots
"""The name of `ElogSummaryPlots` for those who have no Elog."""

__all__ = [
    "ANALYSIS_EVENTS",
    "ANALYSIS_MOVES",
    "CSV_COLUMNS",
    "MAX_ATTACHED",
    "MAX_BLOB_BYTES",
    "MAX_FIRST_LINE",
    "MAX_PAGE",
    "MAX_SUBSCRIPTIONS",
    "SITUATIONS",
    "UPGRADE_COMMAND",
    "AnalysisExecutor",
    "AnalysisHeader",
    "AnalysisLoop",
    "AnalysisOutput",
    "AnalysisParameters",
    "AnalysisStatus",
    "Announcement",
    "Attached",
    "Attachments",
    "Cause",
    "DataBlob",
    "DescribedAnalysis",
    "Durability",
    "ElogSummaryPlots",
    "Explanation",
    "FileProvider",
    "FileQuota",
    "FileReference",
    "FileReporter",
    "FileStore",
    "FinishedCommand",
    "LocalFiles",
    "LogReporter",
    "NewTask",
    "NodeReport",
    "OutboxMessage",
    "Page",
    "Phase",
    "PluginState",
    "ProcessingTask",
    "QueuedReporter",
    "RecordCommands",
    "RecordOwner",
    "RecordStatus",
    "RecordStore",
    "RecordedNode",
    "Recorder",
    "RecorderSettings",
    "RecorderStatistics",
    "Report",
    "Reporter",
    "Retention",
    "RunningAnalysis",
    "Situation",
    "Step",
    "StoreSettings",
    "StoredMessage",
    "Summary",
    "SummaryPlots",
    "Synchronous",
    "TaskAttachments",
    "TaskEvent",
    "TaskFile",
    "TaskFilter",
    "TaskLink",
    "TaskLogLine",
    "TaskResult",
    "TaskRun",
    "TaskStatus",
    "TaskUpdateSubscription",
    "Transaction",
    "UnfinishedCommand",
    "UrlFiles",
    "WebhookOutbox",
    "WebhookRef",
    "Words",
    "add_step",
    "analysis_from_record",
    "analysis_to_record",
    "attach_analysis",
    "claim_round",
    "clear_step",
    "close_abandoned",
    "close_lost",
    "count_tasks",
    "current_version",
    "decode",
    "description_from_json",
    "description_to_json",
    "encode",
    "explain",
    "explain_tree",
    "export_csv",
    "export_jsonl",
    "export_lute",
    "figure_bytes",
    "find_finished",
    "find_page",
    "find_states",
    "find_task",
    "find_unfinished",
    "flatten",
    "latest_version",
    "load_providers",
    "migrate",
    "new_tasks",
    "node_uid",
    "plots_in",
    "read_analysis",
    "read_latest_parameter",
    "recent_durations",
    "record_analysis",
    "recorded_tree",
    "result_from_json",
    "result_from_tracker",
    "result_to_json",
    "retain",
    "safe_name",
    "save_task_error",
    "save_task_result",
    "select_environment",
    "situation_of",
    "situation_of_analysis",
    "situation_of_record",
    "start_task",
    "substitute",
    "summary_view",
    "task_view",
    "walk",
    "write_plots",
]
