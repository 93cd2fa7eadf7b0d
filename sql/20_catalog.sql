/* What orders refer to: currencies, products, locations. */

CREATE TABLE order_engine.currency (
	currency		text		PRIMARY KEY CHECK (currency ~ '^[A-Z]{3}$'),
	minor_units		smallint	NOT NULL CHECK (minor_units BETWEEN 0 AND 4),
	built_in		boolean		NOT NULL DEFAULT false
);
COMMENT ON TABLE order_engine.currency IS 'Currencies (ISO 4217) and how many decimals an amount may have.';
COMMENT ON COLUMN order_engine.currency.currency IS 'ISO 4217 code, three capital letters.';
COMMENT ON COLUMN order_engine.currency.minor_units IS 'Decimals of an amount: 2 for EUR, 0 for JPY, 3 for KWD.';
COMMENT ON COLUMN order_engine.currency.built_in IS 'True for rows of the extension; false for rows added by the user.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.currency', 'WHERE NOT built_in');

INSERT INTO order_engine.currency (currency, minor_units, built_in)
SELECT code, units, true
FROM (VALUES
	(0, 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF'),
	(2, 'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD '
	 || 'CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL '
	 || 'GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR '
	 || 'LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD '
	 || 'PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC '
	 || 'SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD YER ZAR ZMW ZWG'),
	(3, 'BHD IQD JOD KWD LYD OMR TND'),
	(4, 'CLF UYW')) AS list (units, codes),
	pg_catalog.regexp_split_to_table(codes, ' ') AS code;

CREATE TABLE order_engine.product (
	sku				text		PRIMARY KEY CHECK (sku <> ''),
	name			text		NOT NULL,
	unit_price		numeric		CHECK (unit_price >= numeric '0'),
	currency		text		REFERENCES order_engine.currency,
	tracked			boolean		NOT NULL DEFAULT true,
	metadata		jsonb,
	created_at		timestamptz	NOT NULL DEFAULT pg_catalog.now(),
	updated_at		timestamptz	NOT NULL DEFAULT pg_catalog.now(),
	CHECK (unit_price IS NULL OR currency IS NOT NULL)
);
COMMENT ON TABLE order_engine.product IS 'What may be ordered, by SKU. Written by upsert_product.';
COMMENT ON COLUMN order_engine.product.sku IS 'Stock keeping unit, the key under which the application knows the product.';
COMMENT ON COLUMN order_engine.product.name IS 'Name for people.';
COMMENT ON COLUMN order_engine.product.unit_price IS 'Default price of one unit, in currency; null when every order must say the price.';
COMMENT ON COLUMN order_engine.product.currency IS 'Currency of unit_price.';
COMMENT ON COLUMN order_engine.product.tracked IS 'True: an order reserves stock. False: sold without stock (services, downloads).';
COMMENT ON COLUMN order_engine.product.metadata IS 'Free for the application.';
COMMENT ON COLUMN order_engine.product.created_at IS 'When the product was first written.';
COMMENT ON COLUMN order_engine.product.updated_at IS 'When the product was last written.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.product', '');

CREATE TABLE order_engine.location (
	location		text		PRIMARY KEY CHECK (location <> ''),
	name			text		NOT NULL,
	region			text,
	priority		integer		NOT NULL DEFAULT 100
);
COMMENT ON TABLE order_engine.location IS 'Where stock lies. Written by upsert_location; the location "default" is also made by the first adjust_stock that names it.';
COMMENT ON COLUMN order_engine.location.location IS 'Key of the location.';
COMMENT ON COLUMN order_engine.location.name IS 'Name for people.';
COMMENT ON COLUMN order_engine.location.region IS 'Region that it serves, free text; null for all.';
COMMENT ON COLUMN order_engine.location.priority IS 'Lower numbers are tried first when an order names no location.';
-- No row of it is made here: what the user changed in such a row would not be in the dump.
SELECT pg_catalog.pg_extension_config_dump('order_engine.location', '');

CREATE TABLE order_engine.channel_location (
	priority		integer		NOT NULL,
	channel			text		NOT NULL CHECK (channel <> ''),
	location		text		NOT NULL REFERENCES order_engine.location,
	PRIMARY KEY (channel, location)
);
COMMENT ON TABLE order_engine.channel_location IS 'Locations that orders of a sales channel take stock from. A channel without rows takes it from every location, by the priority of the location. Written by set_channel_locations.';
COMMENT ON COLUMN order_engine.channel_location.priority IS 'Lower numbers are tried first.';
COMMENT ON COLUMN order_engine.channel_location.channel IS 'The sales channel.';
COMMENT ON COLUMN order_engine.channel_location.location IS 'The location.';
SELECT pg_catalog.pg_extension_config_dump('order_engine.channel_location', '');
