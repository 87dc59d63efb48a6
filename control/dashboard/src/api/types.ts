/** Short names for the server's types, so that the rest of the page does not spell out where they come from. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type RunDetail = Schemas["RunDetail"];
export type RunSummary = Schemas["RunSummary"];
export type RunStatus = Schemas["RunStatus"];
export type CommandRecord = Schemas["CommandRecord"];
export type ActorCommand = Schemas["ActorCommand"];
export type BranchInfo = Schemas["BranchInfo"];
export type CheckpointInfo = Schemas["CheckpointInfo"];
export type VersionInfo = Schemas["VersionInfo"];
export type SampleInfo = Schemas["SampleInfo"];
export type ChannelInfo = Schemas["ChannelInfo"];
export type FollowerInfo = Schemas["FollowerInfo"];
export type MixtureBody = Schemas["MixtureBody"];
export type MixtureSource = Schemas["MixtureSource"];
export type MetricSeries = Schemas["MetricSeries"];
export type Comparison = Schemas["Comparison"];
export type SeriesPage = Schemas["SeriesPage"];
export type Event = Schemas["Event"];
export type ModelTree = Schemas["ModelTree"];
export type LinkInfo = Schemas["LinkInfo"];
export type LinkName = Schemas["LinkName"];
export type LinkFlow = Schemas["Flow"];
export type WayInfo = Schemas["WayInfo"];
export type EventType = Schemas["EventType"];
export type Outcome = Schemas["Outcome"];
export type WatchWelcome = Schemas["WatchWelcome"];
export type WatchEvents = Schemas["WatchEvents"];
