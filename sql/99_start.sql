/* A database that is listed gets its worker as soon as this commits. */

DO $$ BEGIN PERFORM order_engine.wake_launcher(); END $$;
