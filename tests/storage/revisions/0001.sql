BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
	count BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "alerts" VALUES('a/0000000000000001/3/defect','a','defect','Defect on a: “Kratzer”.',1700000000000000003,1700000009000000000,1700000005000000000,'ann','a/0000000000000001/3','a/3',3.00000000000000044408e-01,0.01,3.33333333333333314829e-01,'plate@1',4);
INSERT INTO "alerts" VALUES('a/1700000011000000000/line_silent','a','line_silent','Line a is silent.',1700000011000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1);
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
CREATE TABLE rule_state (
	line VARCHAR NOT NULL, 
	state TEXT NOT NULL, 
	PRIMARY KEY (line)
);
INSERT INTO "rule_state" VALUES('a','{"line":"a"}');
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
COMMIT;
