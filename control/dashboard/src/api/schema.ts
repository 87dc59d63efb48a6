// Generated from the control server's OpenAPI by `npm run types`. Do not edit.

export interface paths {
    "/api/command/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Command
         * @description Send a command; what becomes of it comes over `WS /ws/message/`.
         */
        post: operations["command_api_command__post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/get_checkpoints/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Checkpoints */
        get: operations["checkpoints_api_get_checkpoints__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/get_dataset_info/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Dataset */
        get: operations["dataset_api_get_dataset_info__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/get_info/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Info */
        get: operations["info_api_get_info__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/get_logs/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Logs */
        get: operations["logs_api_get_logs__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/get_model_info/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Model */
        get: operations["model_api_get_model_info__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/get_optimizer_info/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Optimizer */
        get: operations["optimizer_api_get_optimizer_info__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Audit
         * @description Who wanted what, when, and what came of it, newest first.
         */
        get: operations["audit_api_v1_audit_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/commands": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Page
         * @description Commands, newest first.
         */
        get: operations["page_api_v1_commands_get"];
        put?: never;
        /**
         * Send
         * @description Send a command. 202 while it has no outcome, 200 once it has one (rejections included: look at `outcome`).
         */
        post: operations["send_api_v1_commands_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/commands/{uuid}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * One
         * @description A command and its history; with `wait`, when it has its outcome or the time is over.
         */
        get: operations["one_api_v1_commands__uuid__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * History
         * @description Events of a number above `since`, in order. A stream of them: the WebSocket of the same address.
         */
        get: operations["history_api_v1_events_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/followers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Followers
         * @description Servers that follow the weights, as of their last heartbeats.
         */
        get: operations["followers_api_v1_followers_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/metrics/series": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Compared
         * @description The same metrics of several runs, for one chart; runs that train at the same time may be among them.
         */
        get: operations["compared_api_v1_metrics_series_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/report": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Report
         * @description Store events. Not deduplicated: a report sent twice is there twice, as befits a heartbeat.
         */
        post: operations["report_api_v1_report_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/runs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Runs
         * @description All runs, those with the newest events first.
         */
        get: operations["runs_api_v1_runs_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/runs/{run}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Run
         * @description Everything that a page needs to draw a run.
         */
        get: operations["run_api_v1_runs__run__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/runs/{run}/desired": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Desired
         * @description What people want of the run: a supervisor asks this before it starts a trainer.
         */
        get: operations["desired_api_v1_runs__run__desired_get"];
        put?: never;
        /**
         * Want
         * @description Want something else of the run. It is turned into the command that does it, and recorded as that.
         */
        post: operations["want_api_v1_runs__run__desired_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/runs/{run}/metrics/series": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Metric Series
         * @description Metrics by step, one series for each metric and branch; what was undone by a resume is left out.
         */
        get: operations["metric_series_api_v1_runs__run__metrics_series_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/runs/{run}/model": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Model
         * @description The model's layers, as its trainer described them.
         */
        get: operations["model_api_v1_runs__run__model_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/runs/{run}/versions/{version}/samples": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Show
         * @description Show what a version paints: PNG files, in place of those it had. The version has to be known: told of before.
         */
        put: operations["show_api_v1_runs__run__versions__version__samples_put"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/runs/{run}/way": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Way
         * @description The way of one click, link by link: rates, lags, and what to do where it is broken.
         */
        get: operations["way_api_v1_runs__run__way_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/samples/{sha256}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Sample
         * @description One picture.
         */
        get: operations["sample_api_v1_samples__sha256__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/versions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Versions
         * @description Versions of the weights, newest first, and the channels that point at them.
         */
        get: operations["versions_api_v1_versions_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/livez": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Live
         * @description The server answers.
         */
        get: operations["live_livez_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Metrics
         * @description Figures for Prometheus; a scraper needs a token with the scope `read`.
         */
        get: operations["metrics_metrics_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Ready
         * @description The store can be written.
         */
        get: operations["ready_readyz_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * ActorCommand
         * @description A command that can be sent now or, while its actor is away, that would wait for it.
         */
        ActorCommand: {
            /** Actor */
            actor: string;
            /** Available */
            available: boolean;
            spec: components["schemas"]["CommandSpec"];
        };
        /**
         * ActorInfo
         * @description A process that takes commands. `connected` is now; `since` when that last changed.
         */
        ActorInfo: {
            /** Actor */
            actor: string;
            /** Connected */
            connected: boolean;
            /** Instance */
            instance: string;
            /** Kind */
            kind: string;
            /** Since */
            since: number;
        };
        /**
         * AuditEntry
         * @description Who wanted what, when, and what came of it. `seconds` is how long the outcome took.
         */
        AuditEntry: {
            /** After */
            after: unknown;
            /** Arguments */
            arguments: {
                [key: string]: unknown;
            };
            /** Author */
            author: string;
            /** Before */
            before: unknown;
            /** Branch */
            branch: string;
            /** Command */
            command: string;
            /** Dry Run */
            dry_run: boolean;
            /** Note */
            note: string;
            outcome: components["schemas"]["Outcome"] | null;
            /** Reason */
            reason: string;
            /** Run */
            run: string;
            /** Seconds */
            seconds: number | null;
            /** Step */
            step: number | null;
            /** Takes Effect At */
            takes_effect_at: number | null;
            /** Time */
            time: number;
            /** Uuid */
            uuid: string;
        };
        /**
         * AuditPage
         * @description Interventions, newest first; `before` is the cursor of the next page, None at the end.
         */
        AuditPage: {
            /** Before */
            before: number | null;
            /** Entries */
            entries: components["schemas"]["AuditEntry"][];
        };
        /**
         * BranchInfo
         * @description A named chain of segments. `parent` and `forked_at` are those of its first segment's fork. `title` is what people
         *     call it, empty where they did not say; a `deleted` one has its numbers and no checkpoints.
         */
        BranchInfo: {
            /** Branch */
            branch: string;
            /**
             * Deleted
             * @default false
             */
            deleted: boolean;
            /** Forked At */
            forked_at?: number | null;
            /**
             * Note
             * @default
             */
            note: string;
            /** Parent */
            parent?: string | null;
            /** Segments */
            segments: components["schemas"]["SegmentInfo"][];
            /** Step */
            step?: number | null;
            /** Time */
            time: number;
            /**
             * Title
             * @default
             */
            title: string;
        };
        /**
         * ChannelInfo
         * @description A pointer to a version. While `held`, new versions do not move it.
         */
        ChannelInfo: {
            /** Channel */
            channel: string;
            /** Held */
            held: boolean;
            /** Run */
            run: string;
            /** Time */
            time: number;
            /** Version */
            version: number;
        };
        /**
         * CheckpointInfo
         * @description A saved checkpoint. `path` is where the trainer has it.
         */
        CheckpointInfo: {
            /** Branch */
            branch: string;
            /** Bytes */
            bytes?: number | null;
            /** Path */
            path: string;
            /**
             * Reason
             * @default
             */
            reason: string;
            /** Revision */
            revision?: number | null;
            /** Run */
            run: string;
            /** Segment */
            segment: string;
            /** Step */
            step: number | null;
            /** Time */
            time: number;
            /** Uuid */
            uuid: string;
        };
        /**
         * CommandDetail
         * @description A command with its whole history, oldest first.
         */
        CommandDetail: {
            command: components["schemas"]["CommandRecord"];
            /** History */
            history: components["schemas"]["CommandReport"][];
        };
        /**
         * CommandKind
         * @description What becomes of a command when its actor dies, and what a load undoes.
         * @enum {string}
         */
        CommandKind: "action" | "setting" | "restore";
        /**
         * CommandPage
         * @description Commands, newest first; `before` is the cursor of the next page, None at the end.
         */
        CommandPage: {
            /** Before */
            before: number | null;
            /** Commands */
            commands: components["schemas"]["CommandRecord"][];
        };
        /**
         * CommandRecord
         * @description A command and where it stands. `number` is its place among the commands of its run (0: none was given).
         *
         *     `outcome` is set exactly once, with `reason`, `final_at` and, where an actor acted, `step`, `before` and `after`.
         *     `actor` is who takes it (`control`: the server itself); `delivered_to` the process that has it; `client_uuid` the
         *     identity under which a client of the paper's paths knows it; `token` the name of the token that brought it.
         */
        CommandRecord: {
            /** Actor */
            actor?: string | null;
            /** After */
            after?: unknown;
            /** Arguments */
            arguments?: {
                [key: string]: unknown;
            };
            /** Author */
            author: string;
            /** Before */
            before?: unknown;
            /**
             * Branch
             * @default main
             */
            branch: string;
            /** Client Uuid */
            client_uuid?: string | null;
            /** Command */
            command: string;
            /** Delivered To */
            delivered_to?: string | null;
            /**
             * Dry Run
             * @default false
             */
            dry_run: boolean;
            /** Expected Revision */
            expected_revision?: number | null;
            /** Expires At */
            expires_at?: number | null;
            /** Final At */
            final_at?: number | null;
            /** @default action */
            kind: components["schemas"]["CommandKind"];
            /**
             * Note
             * @default
             */
            note: string;
            /**
             * Number
             * @default 0
             */
            number: number;
            outcome?: components["schemas"]["Outcome"] | null;
            /**
             * Reason
             * @default
             */
            reason: string;
            /** Received At */
            received_at: number;
            /** Run */
            run: string;
            /** @default requested */
            status: components["schemas"]["Status"];
            /** Step */
            step?: number | null;
            /** Takes Effect At */
            takes_effect_at?: number | null;
            /** Time */
            time: number;
            /**
             * Token
             * @default
             */
            token: string;
            /** Uuid */
            uuid: string;
        };
        /**
         * CommandReport
         * @description One entry in the history of a command: what it became at a time.
         */
        CommandReport: {
            outcome?: components["schemas"]["Outcome"] | null;
            /**
             * Reason
             * @default
             */
            reason: string;
            /** Seq */
            seq: number;
            status: components["schemas"]["Status"];
            /** Step */
            step?: number | null;
            /** Time */
            time: number;
        };
        /**
         * CommandSpec
         * @description A command that an actor takes: its arguments as JSON Schema (with the actor's bounds), and how it is shown.
         */
        CommandSpec: {
            /** Arguments */
            arguments: {
                [key: string]: unknown;
            };
            /**
             * Destructive
             * @default false
             */
            destructive: boolean;
            /** @default action */
            kind: components["schemas"]["CommandKind"];
            /** Name */
            name: string;
            /** Summary */
            summary: string;
        };
        /**
         * Comparison
         * @description The same metrics of several runs, up to the event `seq`: a page of series for each run.
         */
        Comparison: {
            /** Runs */
            runs: components["schemas"]["SeriesPage"][];
            /** Seq */
            seq: number;
        };
        /**
         * Desired
         * @description What people want of a run. `command` is the command that a change was turned into, None where nothing changed.
         */
        Desired: {
            /** Author */
            author: string;
            command?: components["schemas"]["CommandRecord"] | null;
            /** Run */
            run: string;
            state: components["schemas"]["DesiredState"];
            /** Time */
            time: number;
        };
        /**
         * DesiredState
         * @description What people want of a run, kept over crashes and restarts; `stopped` holds until `start_training`.
         * @enum {string}
         */
        DesiredState: "running" | "paused" | "stopped";
        /**
         * Event
         * @description One thing that happened. `seq` is the server's and grows by one over all runs; 0 until it is stored.
         */
        Event: {
            /**
             * Body
             * @default {}
             */
            body: {
                [key: string]: unknown;
            };
            /**
             * Branch
             * @default main
             */
            branch: string;
            /**
             * Level
             * @default info
             * @enum {string}
             */
            level: "info" | "warning" | "error";
            /** Run */
            run: string;
            /**
             * Seq
             * @default 0
             */
            seq: number;
            /** Step */
            step?: number | null;
            /** Time */
            time?: number;
            type: components["schemas"]["EventType"];
        };
        /**
         * EventPage
         * @description Events in order of `seq`. `last` is the cursor to go on from; `more` says that there are others already.
         */
        EventPage: {
            /** Events */
            events: components["schemas"]["Event"][];
            /** Last */
            last: number;
            /** More */
            more: boolean;
        };
        /**
         * EventType
         * @description What an event tells.
         * @enum {string}
         */
        EventType: "metrics" | "command" | "run" | "checkpoint" | "branch" | "mixture" | "evaluation" | "version" | "follower" | "health" | "pipeline" | "log" | "actor" | "agent";
        /**
         * Flow
         * @description How a link does.
         * @enum {string}
         */
        Flow: "flows" | "idle" | "behind" | "broken" | "absent";
        /**
         * FollowerInfo
         * @description A server of weights, as of its last heartbeat at `time`.
         */
        FollowerInfo: {
            /** Channel */
            channel: string;
            /**
             * Error
             * @default
             */
            error: string;
            /** Follower */
            follower: string;
            /** Lag Seconds */
            lag_seconds?: number | null;
            /** Loaded At */
            loaded_at?: number | null;
            /** Run */
            run: string;
            /** Swaps */
            swaps?: number | null;
            /** Time */
            time: number;
            /** Version */
            version: number | null;
        };
        /**
         * FollowerList
         * @description Followers by name.
         */
        FollowerList: {
            /** Followers */
            followers: components["schemas"]["FollowerInfo"][];
        };
        /**
         * LastMetrics
         * @description The newest numbers of a run: each metric's last value, and the step and time of the newest report.
         */
        LastMetrics: {
            /** Branch */
            branch: string;
            /** Step */
            step: number | null;
            /** Time */
            time: number;
            /** Values */
            values: {
                [key: string]: number | null;
            };
        };
        /**
         * LinkInfo
         * @description One link. `rate` is per second in `unit`, `lag` in `lag_unit`; None where the link has none or did not tell.
         *
         *     `heard_at` is when its process last said anything. `problem` and `advice` (what to do) are set where it is broken or
         *     behind.
         */
        LinkInfo: {
            /**
             * Advice
             * @default
             */
            advice: string;
            flow: components["schemas"]["Flow"];
            /** Heard At */
            heard_at?: number | null;
            /** Lag */
            lag?: number | null;
            /**
             * Lag Unit
             * @default
             */
            lag_unit: string;
            link: components["schemas"]["LinkName"];
            /**
             * Note
             * @default
             */
            note: string;
            /**
             * Problem
             * @default
             */
            problem: string;
            /** Rate */
            rate?: number | null;
            /**
             * Unit
             * @default
             */
            unit: string;
        };
        /**
         * LinkName
         * @description The links, in the order in which a click passes them.
         * @enum {string}
         */
        LinkName: "gateway" | "log" | "samples" | "shards" | "mixture" | "step" | "version" | "served";
        /**
         * Live
         * @description `/livez`.
         */
        Live: {
            /**
             * Status
             * @default ok
             * @constant
             */
            status: "ok";
        };
        /**
         * MetricSeries
         * @description One metric of one branch, in columns of equal length, by step. With `downsampled`, a row stands for a bucket of
         *     steps: its last step and time, and the smallest, largest and mean value; else the three are the value itself.
         */
        MetricSeries: {
            /** Branch */
            branch: string;
            /** Downsampled */
            downsampled: boolean;
            /** High */
            high: (number | null)[];
            /** Low */
            low: (number | null)[];
            /** Mean */
            mean: (number | null)[];
            /** Metric */
            metric: string;
            /** Steps */
            steps: number[];
            /** Times */
            times: number[];
        };
        /**
         * MixtureBody
         * @description `mixture`: the sources by name; `version` counts changes of the weights.
         */
        MixtureBody: {
            /** Sources */
            sources: {
                [key: string]: components["schemas"]["MixtureSource"];
            };
            /** Version */
            version: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * MixtureSource
         * @description One source: the weight that was asked for, its share of all weights, and the share lately drawn.
         */
        MixtureSource: {
            /**
             * Dry
             * @default false
             */
            dry: boolean;
            /** Lag Seconds */
            lag_seconds?: number | null;
            /** Samples */
            samples?: number | null;
            /** Seen */
            seen?: number | null;
            /** Share */
            share?: number | null;
            /** Weight */
            weight: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * ModelTree
         * @description The model as its trainer described it (see `control.bodies.StateKey.MODEL`); None before it did.
         */
        ModelTree: {
            /** Model */
            model: {
                [key: string]: unknown;
            } | null;
            /** Run */
            run: string;
        };
        /**
         * NewCommand
         * @description `POST /api/v1/commands`. `uuid` makes a resend harmless.
         *
         *     `run` may be left out where one run takes the command, `author` (`rule:spike`, `llm:…`) where it is the token's
         *     name. Without `expires_at` the server's default holds.
         */
        NewCommand: {
            /** Arguments */
            arguments?: {
                [key: string]: unknown;
            };
            /** Author */
            author?: string | null;
            /** Command */
            command: string;
            /**
             * Dry Run
             * @default false
             */
            dry_run: boolean;
            /** Expected Revision */
            expected_revision?: number | null;
            /** Expires At */
            expires_at?: number | null;
            /**
             * Note
             * @default
             */
            note: string;
            /** Run */
            run?: string | null;
            /** Time */
            time?: number | null;
            /** Uuid */
            uuid?: string | null;
        };
        /**
         * NewDesired
         * @description `POST /api/v1/runs/{run}/desired`.
         */
        NewDesired: {
            /**
             * Note
             * @default
             */
            note: string;
            state: components["schemas"]["DesiredState"];
        };
        /**
         * NewReport
         * @description `POST /api/v1/report`.
         */
        NewReport: {
            /** Events */
            events: components["schemas"]["ReportedEvent"][];
        };
        /**
         * NewSample
         * @description One picture, a PNG file. `label` says what it shows, and pairs it with that of the version before.
         */
        NewSample: {
            /** Label */
            label: string;
            /**
             * Png
             * Format: base64
             */
            png: string;
        };
        /**
         * NewSamples
         * @description `PUT /api/v1/runs/{run}/versions/{version}/samples`: all pictures of the version, in place of those it had.
         */
        NewSamples: {
            /** Samples */
            samples: components["schemas"]["NewSample"][];
        };
        /**
         * Outcome
         * @description How a command ended; every command has exactly one. The last three are `failed` in the paper's words.
         * @enum {string}
         */
        Outcome: "success" | "failed" | "rejected" | "expired" | "superseded";
        /**
         * PaperAnswer
         * @description What `POST /api/command/` answers.
         */
        PaperAnswer: {
            /**
             * Message
             * @default
             */
            message: string;
            /**
             * Status
             * @enum {string}
             */
            status: "success" | "error";
            /** Uuid */
            uuid: string;
        };
        /**
         * PaperBranch
         * @description A branch and its parent.
         */
        PaperBranch: {
            /** Id */
            id: string;
            /** Parent */
            parent: string | null;
            /** Wall Time */
            wall_time: number;
        };
        /**
         * PaperCheckpoint
         * @description An item of `/api/get_checkpoints/`.
         */
        PaperCheckpoint: {
            /** Branch */
            branch: string;
            /** Checkpoint Dir */
            checkpoint_dir: string;
            /** Global Step */
            global_step: number | null;
            /** Time */
            time: number;
            /** Uuid */
            uuid: string;
        };
        /**
         * PaperDataset
         * @description `/api/get_dataset_info/`.
         */
        PaperDataset: {
            /** Initialization Parameters */
            initialization_parameters: {
                [key: string]: unknown;
            };
            /** Interactive Parameters */
            interactive_parameters: {
                [key: string]: unknown;
            };
        };
        /**
         * PaperInfo
         * @description `/api/get_info/`.
         */
        PaperInfo: {
            /** Run Name */
            run_name: string;
            /** Start Time */
            start_time: number;
            /** Status */
            status: string;
        };
        /**
         * PaperLogs
         * @description `/api/get_logs/`.
         */
        PaperLogs: {
            /** Branch Info */
            branch_info: {
                [key: string]: components["schemas"]["PaperBranch"];
            };
            /** Branch Tree */
            branch_tree: {
                [key: string]: string[];
            };
            /** Branched Logs */
            branched_logs: {
                [key: string]: components["schemas"]["PaperPoint"][];
            };
            /** Current Branch */
            current_branch: string;
            /** Local Step */
            local_step: number;
        };
        /**
         * PaperPoint
         * @description Numbers of one step.
         */
        PaperPoint: {
            /** Local Step */
            local_step: number;
            /** Metrics */
            metrics: {
                [key: string]: unknown;
            };
            /** Wall Time */
            wall_time: number;
        };
        /**
         * ProblemBody
         * @description RFC 9457 problem details, the body of every refusal (`application/problem+json`).
         */
        ProblemBody: {
            /** Detail */
            detail: string;
            /** Did You Mean */
            did_you_mean?: string | null;
            /** Instance */
            instance: string;
            /** Retryable */
            retryable: boolean;
            /** Status */
            status: number;
            /** Title */
            title: string;
            /** Type */
            type: string;
        };
        /**
         * Ready
         * @description `/readyz`: the store can be written, and how far it is.
         */
        Ready: {
            /**
             * Reason
             * @default
             */
            reason: string;
            /** Seq */
            seq: number;
            /**
             * Status
             * @enum {string}
             */
            status: "ok" | "failing";
        };
        /**
         * ReportAccepted
         * @description The events are stored, up to `last`.
         */
        ReportAccepted: {
            /** Last */
            last: number;
        };
        /**
         * ReportedEvent
         * @description An event from a reporter that keeps no connection (a pipeline's figures, a follower's heartbeat).
         */
        ReportedEvent: {
            /** Body */
            body?: {
                [key: string]: unknown;
            };
            /**
             * Branch
             * @default main
             */
            branch: string;
            /**
             * Level
             * @default info
             * @enum {string}
             */
            level: "info" | "warning" | "error";
            /** Run */
            run: string;
            /** Step */
            step?: number | null;
            /** Time */
            time?: number | null;
            type: components["schemas"]["EventType"];
        };
        /**
         * RunDetail
         * @description Everything that a page needs to draw a run; `seq` is the event up to which it holds, where a stream goes on.
         *
         *     `state` is what the actors said of themselves, by key (`optimizer`, `dataset`, `info`, …) without the model tree,
         *     which has an address of its own.
         */
        RunDetail: {
            /** Actors */
            actors: components["schemas"]["ActorInfo"][];
            /** Branch */
            branch: string;
            /** Branches */
            branches: components["schemas"]["BranchInfo"][];
            /** Checkpoints */
            checkpoints: components["schemas"]["CheckpointInfo"][];
            /** Commands */
            commands: components["schemas"]["ActorCommand"][];
            /** Created At */
            created_at: number;
            desired: components["schemas"]["DesiredState"];
            /** Last Event At */
            last_event_at: number;
            /** Max Steps */
            max_steps?: number | null;
            /** Metric Names */
            metric_names: string[];
            metrics: components["schemas"]["LastMetrics"] | null;
            mixture: components["schemas"]["MixtureBody"] | null;
            /** Optimizer */
            optimizer: {
                [key: string]: unknown;
            };
            /** Pipeline */
            pipeline: {
                [key: string]: {
                    [key: string]: unknown;
                };
            };
            /**
             * Reason
             * @default
             */
            reason: string;
            /** Revision */
            revision: number;
            /** Run */
            run: string;
            /** Seq */
            seq: number;
            /** State */
            state: {
                [key: string]: unknown;
            };
            status: components["schemas"]["RunStatus"];
            /** Step */
            step: number | null;
        };
        /**
         * RunList
         * @description All runs, those with the newest events first.
         */
        RunList: {
            /** Runs */
            runs: components["schemas"]["RunSummary"][];
        };
        /**
         * RunStatus
         * @description What a run does, in the words of its trainer; `disconnected` is the server's.
         * @enum {string}
         */
        RunStatus: "starting" | "running" | "paused" | "stopped" | "finished" | "crashed" | "disconnected";
        /**
         * RunSummary
         * @description A run. `status` is `disconnected` while its trainer is away without having said that it is over.
         */
        RunSummary: {
            /** Actors */
            actors: components["schemas"]["ActorInfo"][];
            /** Branch */
            branch: string;
            /** Created At */
            created_at: number;
            desired: components["schemas"]["DesiredState"];
            /** Last Event At */
            last_event_at: number;
            /** Max Steps */
            max_steps?: number | null;
            /**
             * Reason
             * @default
             */
            reason: string;
            /** Revision */
            revision: number;
            /** Run */
            run: string;
            status: components["schemas"]["RunStatus"];
            /** Step */
            step: number | null;
        };
        /**
         * SampleInfo
         * @description A picture that is kept, to be had under `/api/v1/samples/{sha256}`. Width and height are in pixels.
         */
        SampleInfo: {
            /** Bytes */
            bytes: number;
            /** Height */
            height: number;
            /** Label */
            label: string;
            /** Sha256 */
            sha256: string;
            /** Width */
            width: number;
        };
        /**
         * SampleList
         * @description The pictures of a version, in the order in which they came.
         */
        SampleList: {
            /** Run */
            run: string;
            /** Samples */
            samples: components["schemas"]["SampleInfo"][];
            /** Version */
            version: number;
        };
        /**
         * SegmentInfo
         * @description One uninterrupted stretch of training. `parent` and `forked_at` say where it goes on from; `parent_run` is set where
         *     that is a segment of another run.
         */
        SegmentInfo: {
            /** Branch */
            branch: string;
            /** Checkpoint */
            checkpoint?: string | null;
            /** First Seq */
            first_seq: number;
            /** Forked At */
            forked_at?: number | null;
            /**
             * Note
             * @default
             */
            note: string;
            /** Parent */
            parent?: string | null;
            /** Parent Run */
            parent_run?: string | null;
            /**
             * Reason
             * @default fresh
             */
            reason: string;
            /** Segment */
            segment: string;
            /** Time */
            time: number;
        };
        /**
         * SeriesPage
         * @description Series of a run; `seq` is the event up to which they hold.
         */
        SeriesPage: {
            /** Run */
            run: string;
            /** Seq */
            seq: number;
            /** Series */
            series: components["schemas"]["MetricSeries"][];
        };
        /**
         * Status
         * @description Where a command stands, in the paper's words. `completed` is understood and never sent.
         * @enum {string}
         */
        Status: "requested" | "pending" | "running" | "completed" | "success" | "failed";
        /**
         * VersionInfo
         * @description A version of the weights, and the channels that point at it now. `parent` is the version before it along its
         *     branch, `evaluation` what the trainer measured last before it, `samples` what it paints, where that is kept.
         */
        VersionInfo: {
            /** Action */
            action: string;
            /** Branch */
            branch: string;
            /** Bytes */
            bytes?: number | null;
            /**
             * Channels
             * @default []
             */
            channels: string[];
            /** Evaluation */
            evaluation?: {
                [key: string]: number;
            };
            /** Parent */
            parent?: number | null;
            /**
             * Reason
             * @default
             */
            reason: string;
            /** Run */
            run: string;
            /**
             * Samples
             * @default []
             */
            samples: components["schemas"]["SampleInfo"][];
            /** Segment */
            segment: string;
            /** Step */
            step: number | null;
            /** Time */
            time: number;
            /** Version */
            version: number;
        };
        /**
         * VersionList
         * @description Versions, newest first, and the channels.
         */
        VersionList: {
            /** Channels */
            channels: components["schemas"]["ChannelInfo"][];
            /** Versions */
            versions: components["schemas"]["VersionInfo"][];
        };
        /**
         * WatchEvents
         * @description Events in order. `last` is where to go on from: it also counts those that a filter left out.
         */
        WatchEvents: {
            /** Events */
            events: components["schemas"]["Event"][];
            /** Last */
            last: number;
            /**
             * Type
             * @default events
             * @constant
             */
            type: "events";
        };
        /**
         * WatchWelcome
         * @description First message to a watcher. `store` names the event table: with another name, earlier sequence numbers mean
         *     nothing. `first` is the oldest event that is still kept, `last` the newest.
         */
        WatchWelcome: {
            /** First */
            first: number;
            /** Last */
            last: number;
            /** Store */
            store: string;
            /**
             * Type
             * @default welcome
             * @constant
             */
            type: "welcome";
        };
        /**
         * WayInfo
         * @description The whole way at `time`, in order.
         */
        WayInfo: {
            /** Links */
            links: components["schemas"]["LinkInfo"][];
            /** Run */
            run: string;
            /** Time */
            time: number;
        };
        /**
         * WireCommand
         * @description The paper's envelope (A.1): `args` is JSON in a string. Unknown fields are ignored, as its clients send some.
         */
        WireCommand: {
            /**
             * Args
             * @default
             */
            args: string | null;
            /** Command */
            command: string;
            /**
             * Status
             * @default requested
             */
            status: string;
            /**
             * Time
             * @default 0
             */
            time: number;
            /**
             * Uuid
             * @default
             */
            uuid: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    command_api_command__post: {
        parameters: {
            query?: {
                /** @description default: the run that trains */
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["WireCommand"];
            };
        };
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PaperAnswer"];
                };
            };
        };
    };
    checkpoints_api_get_checkpoints__get: {
        parameters: {
            query?: {
                /** @description default: the run that trains */
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PaperCheckpoint"][];
                };
            };
        };
    };
    dataset_api_get_dataset_info__get: {
        parameters: {
            query?: {
                /** @description default: the run that trains */
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PaperDataset"];
                };
            };
        };
    };
    info_api_get_info__get: {
        parameters: {
            query?: {
                /** @description default: the run that trains */
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PaperInfo"];
                };
            };
        };
    };
    logs_api_get_logs__get: {
        parameters: {
            query?: {
                /** @description default: the run that trains */
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PaperLogs"];
                };
            };
        };
    };
    model_api_get_model_info__get: {
        parameters: {
            query?: {
                /** @description default: the run that trains */
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
        };
    };
    optimizer_api_get_optimizer_info__get: {
        parameters: {
            query?: {
                /** @description default: the run that trains */
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
        };
    };
    audit_api_v1_audit_get: {
        parameters: {
            query?: {
                author?: string | null;
                /** @description the cursor of the page before this one */
                before?: number | null;
                limit?: number;
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditPage"];
                };
            };
        };
    };
    page_api_v1_commands_get: {
        parameters: {
            query?: {
                author?: string | null;
                /** @description the cursor of the page before this one */
                before?: number | null;
                limit?: number;
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CommandPage"];
                };
            };
        };
    };
    send_api_v1_commands_post: {
        parameters: {
            query?: {
                /** @description seconds to wait for the outcome */
                wait?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewCommand"];
            };
        };
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description OK */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CommandRecord"];
                };
            };
            /** @description Successful Response */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CommandRecord"];
                };
            };
        };
    };
    one_api_v1_commands__uuid__get: {
        parameters: {
            query?: {
                /** @description seconds to wait for the outcome */
                wait?: number;
            };
            header?: never;
            path: {
                uuid: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CommandDetail"];
                };
            };
        };
    };
    history_api_v1_events_get: {
        parameters: {
            query?: {
                branch?: string | null;
                limit?: number;
                run?: string | null;
                since?: number;
                type?: components["schemas"]["EventType"][] | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EventPage"];
                };
            };
        };
    };
    followers_api_v1_followers_get: {
        parameters: {
            query?: {
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FollowerList"];
                };
            };
        };
    };
    compared_api_v1_metrics_series_get: {
        parameters: {
            query: {
                /** @description begin a branch with what it was forked from */
                lineage?: boolean;
                /** @description default: all */
                metric?: string[] | null;
                /** @description at most so many rows for each series */
                points?: number;
                /** @description names of runs */
                run: string[];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Comparison"];
                };
            };
        };
    };
    report_api_v1_report_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewReport"];
            };
        };
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReportAccepted"];
                };
            };
        };
    };
    runs_api_v1_runs_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunList"];
                };
            };
        };
    };
    run_api_v1_runs__run__get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RunDetail"];
                };
            };
        };
    };
    desired_api_v1_runs__run__desired_get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Desired"];
                };
            };
        };
    };
    want_api_v1_runs__run__desired_post: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                run: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewDesired"];
            };
        };
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Desired"];
                };
            };
        };
    };
    metric_series_api_v1_runs__run__metrics_series_get: {
        parameters: {
            query?: {
                /** @description default: all */
                branch?: string[] | null;
                /** @description begin a branch with what it was forked from */
                lineage?: boolean;
                /** @description default: all */
                metric?: string[] | null;
                /** @description at most so many rows for each series */
                points?: number;
            };
            header?: never;
            path: {
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SeriesPage"];
                };
            };
        };
    };
    model_api_v1_runs__run__model_get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelTree"];
                };
            };
        };
    };
    show_api_v1_runs__run__versions__version__samples_put: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                run: string;
                version: number;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewSamples"];
            };
        };
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SampleList"];
                };
            };
        };
    };
    way_api_v1_runs__run__way_get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                run: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WayInfo"];
                };
            };
        };
    };
    sample_api_v1_samples__sha256__get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                sha256: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/png": string;
                };
            };
        };
    };
    versions_api_v1_versions_get: {
        parameters: {
            query?: {
                limit?: number;
                run?: string | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VersionList"];
                };
            };
        };
    };
    live_livez_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Live"];
                };
            };
        };
    };
    metrics_metrics_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
        };
    };
    ready_readyz_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Refused */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ProblemBody"];
                };
            };
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Ready"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Ready"];
                };
            };
        };
    };
}
