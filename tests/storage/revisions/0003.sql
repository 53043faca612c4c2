BEGIN TRANSACTION;
CREATE TABLE accounts (
	name VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	password VARCHAR NOT NULL, 
	created_ns BIGINT NOT NULL, 
	token VARCHAR, 
	token_ns BIGINT, 
	PRIMARY KEY (name)
);
INSERT INTO "accounts" VALUES('a name','a role','a password',1700000000000000000,'a token',1700000000000000000);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE alert_events (
	id INTEGER NOT NULL, 
	alert VARCHAR NOT NULL, 
	change VARCHAR NOT NULL, 
	at_ns BIGINT NOT NULL, 
	"by" VARCHAR, 
	PRIMARY KEY (id), 
	FOREIGN KEY(alert) REFERENCES alerts (id)
);
INSERT INTO "alert_events" VALUES(1,'a/0000000000000001/3/defect','raised',1700000000000000003,NULL);
INSERT INTO "alert_events" VALUES(2,'a/0000000000000001/3/defect','acknowledged',1700000005000000000,'ann');
INSERT INTO "alert_events" VALUES(3,'a/0000000000000001/3/defect','cleared',1700000009000000000,NULL);
INSERT INTO "alert_events" VALUES(4,'a/1700000011000000000/line_silent','raised',1700000011000000000,NULL);
CREATE TABLE alerts (
	id VARCHAR NOT NULL, 
	line VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	text TEXT NOT NULL, 
	raised_ns BIGINT NOT NULL, 
	cleared_ns BIGINT, 
	acknowledged_ns BIGINT, 
	acknowledged_by VARCHAR, 
	verdict VARCHAR, 
	evidence VARCHAR, 
	score FLOAT, 
	p_value FLOAT, 
	threshold FLOAT, 
	model VARCHAR, 
	count BIGINT NOT NULL, started_ns BIGINT, ended_ns BIGINT, worst_verdict VARCHAR, worst_score FLOAT, worst_evidence VARCHAR, label VARCHAR, labelled_ns BIGINT, labelled_by VARCHAR, 
	PRIMARY KEY (id)
);
INSERT INTO "alerts" VALUES('a/0000000000000001/3/defect','a','defect','Defect on a: “Kratzer”.',1700000000000000003,1700000009000000000,1700000005000000000,'ann','a/0000000000000001/3','a/3',3.00000000000000044408e-01,0.01,3.33333333333333314829e-01,'plate@1',4,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "alerts" VALUES('a/1700000011000000000/line_silent','a','line_silent','Line a is silent.',1700000011000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE challenges (
	id VARCHAR NOT NULL, 
	line VARCHAR NOT NULL, 
	at_ns BIGINT NOT NULL, 
	missed INTEGER NOT NULL, 
	challenge TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "challenges" VALUES('a id','a line',1700000000000000000,1700000000000000000,'a challenge');
CREATE TABLE escapes (
	id INTEGER NOT NULL, 
	line VARCHAR NOT NULL, 
	captured_ns BIGINT NOT NULL, 
	part VARCHAR, 
	noted_ns BIGINT NOT NULL, 
	"by" VARCHAR NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "escapes" VALUES(1700000000000000000,'a line',1700000000000000000,'a part',1700000000000000000,'a by','a note');
CREATE TABLE held (
	line VARCHAR NOT NULL, 
	since_ns BIGINT NOT NULL, 
	model VARCHAR NOT NULL, 
	threshold FLOAT NOT NULL, 
	n_good INTEGER, 
	PRIMARY KEY (line, since_ns)
);
INSERT INTO "held" VALUES('a line',1700000000000000000,'a model',0.1,1700000000000000000);
CREATE TABLE labels (
	id INTEGER NOT NULL, 
	alert VARCHAR NOT NULL, 
	label VARCHAR NOT NULL, 
	at_ns BIGINT NOT NULL, 
	"by" VARCHAR NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(alert) REFERENCES alerts (id)
);
INSERT INTO "labels" VALUES(1700000000000000000,'a/0000000000000001/3/defect','a label',1700000000000000000,'a by','a note');
CREATE TABLE minutes (
	line VARCHAR NOT NULL, 
	minute BIGINT NOT NULL, 
	passed INTEGER NOT NULL, 
	rejected INTEGER NOT NULL, 
	unknown INTEGER NOT NULL, 
	PRIMARY KEY (line, minute)
);
INSERT INTO "minutes" VALUES('a',28333333,10,4,2);
CREATE TABLE outbox (
	id INTEGER NOT NULL, 
	sink VARCHAR NOT NULL, 
	alert VARCHAR NOT NULL, 
	change VARCHAR NOT NULL, 
	payload TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_try_ns BIGINT NOT NULL, 
	delivered_ns BIGINT, 
	PRIMARY KEY (id)
);
INSERT INTO "outbox" VALUES(1,'hook','a/0000000000000001/3/defect','raised','{}',0,0,1700000001000000000);
INSERT INTO "outbox" VALUES(2,'hook','a/1700000011000000000/line_silent','raised','{}',3,1700000012000000000,NULL);
CREATE TABLE reasons (
	line VARCHAR NOT NULL, 
	minute BIGINT NOT NULL, 
	reason VARCHAR NOT NULL, 
	count INTEGER NOT NULL, 
	PRIMARY KEY (line, minute, reason)
);
INSERT INTO "reasons" VALUES('a line',1700000000000000000,'a reason',1700000000000000000);
CREATE TABLE rule_state (
	line VARCHAR NOT NULL, 
	state TEXT NOT NULL, 
	PRIMARY KEY (line)
);
INSERT INTO "rule_state" VALUES('a','{"line":"a"}');
CREATE TABLE sessions (
	id VARCHAR NOT NULL, 
	account VARCHAR NOT NULL, 
	opened_ns BIGINT NOT NULL, 
	used_ns BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(account) REFERENCES accounts (name)
);
INSERT INTO "sessions" VALUES('a id','a name',1700000000000000000,1700000000000000000);
CREATE TABLE stream_cursor (
	id INTEGER NOT NULL, 
	position VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "stream_cursor" VALUES(1,'1700000011000-0');
CREATE INDEX alerts_by_time ON alerts (raised_ns);
CREATE UNIQUE INDEX alerts_one_open ON alerts (line, kind) WHERE cleared_ns IS NULL;
CREATE UNIQUE INDEX alert_events_once ON alert_events (alert, change);
CREATE UNIQUE INDEX outbox_once ON outbox (sink, alert, change);
CREATE INDEX outbox_due ON outbox (sink, delivered_ns, next_try_ns);
CREATE INDEX challenges_by_time ON challenges (line, at_ns);
CREATE INDEX labels_by_alert ON labels (alert);
CREATE INDEX escapes_by_time ON escapes (line, captured_ns);
CREATE UNIQUE INDEX accounts_by_token ON accounts (token);
CREATE INDEX sessions_by_account ON sessions (account);
COMMIT;
